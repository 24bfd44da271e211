"""The shells of configuration: what a log line may show, and how a file is read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from coderd.config.io.file import MAX_FILE_SIZE, read_config_file
from coderd.config.io.log import configure_logging
from coderd.model.errors import Exit, UserError


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


def test_a_file_that_need_not_be_there_is_empty(tmp_path: Path) -> None:
    assert read_config_file(tmp_path / "server.toml") == ""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it does not exist"),
        (b"\xff", "it is not UTF-8"),
        (b"#" * (MAX_FILE_SIZE + 1), "it is too long"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "server.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=why) as caught:
        read_config_file(path, is_required=True)
    assert caught.value.exit_code is Exit.USAGE
