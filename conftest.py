"""What holds for every test: in CI a skipped test is a failed one, since CI installs everything that a test needs."""

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns skips into failure where CI is set."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if skipped and os.environ.get("CI"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says so."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get("CI"):
        terminalreporter.write_line(f"{len(skipped)} skipped, and in CI nothing may be skipped", red=True)
