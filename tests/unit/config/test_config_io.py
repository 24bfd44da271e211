"""The shells of configuration: what a log line may show."""

from collections.abc import Iterator

import pytest
import structlog

from coderd.config.io import configure_logging


@pytest.fixture
def logging_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_restored")
def test_a_logged_traceback_shows_no_local_variable(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    token = "cdrs_" + "secret"

    try:
        raise ValueError(len(token))
    except ValueError:
        structlog.get_logger("test").exception("failed")

    logged = capsys.readouterr().err
    assert "ValueError: 11" in logged
    assert token not in logged
