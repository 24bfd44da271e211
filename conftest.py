"""Rules of every test run: how tests share the workers, which run alone, and that CI skips none.

`scripts/test` runs the suite in two parts. In the first, several workers of pytest-xdist take tests side by
side (``--dist loadgroup``); in the second, tests marked ``alone`` run one after another, with the machine to
themselves.
"""

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--part``, which `scripts/test` passes."""
    parser.addoption(
        "--part",
        choices=["together", "alone"],
        help="run only tests that bear company (together), or only those marked alone",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of the other part, and groups the rest for the workers."""
    part = config.getoption("--part")
    if part is not None:
        kept = [item for item in items if (item.get_closest_marker("alone") is not None) == (part == "alone")]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    """Returns what a test runs on one worker together with.

    Tests that share a fixture of their module (a laboratory, say) share one worker, or it would be built
    twice; a slow test is a group by itself, so that the load spreads; quick tests go by file, which costs few
    messages. Hosts that systemd has booted meet in the cgroup of this run, where each finds the other's
    units: one after another.
    """
    if item.get_closest_marker("booted") is not None:
        return "booted"
    shared = _shared_fixtures(item)
    if shared:
        return "::".join([_file(item), *shared])
    if item.get_closest_marker("slow") is not None or _file(item).startswith("netns-tests/"):
        return item.nodeid
    return _file(item)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _shared_fixtures(item: pytest.Item) -> list[str]:
    """Returns the module-scoped fixtures of our own that a test uses, each with its parameter."""
    if not isinstance(item, pytest.Function):
        return []
    parameters = item.callspec.indices if hasattr(item, "callspec") else {}
    found = item._fixtureinfo.name2fixturedefs  # pytest has no public way to ask
    return [
        f"{name}{parameters.get(name, '')}"
        for name, definitions in sorted(found.items())
        if definitions[-1].scope == "module" and definitions[-1].baseid
    ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns skips into failure where CI is set: CI installs everything that a test needs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if skipped and os.environ.get("CI"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says that skips failed the run."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get("CI"):
        terminalreporter.write_line(f"{len(skipped)} skipped, and in CI nothing may be skipped", red=True)
