"""Shells of configuration: the optional file, and where log lines go."""

import io
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog

from coderd.model.errors import Exit, UserError
from coderd.model.visible import visible

MAX_FILE_SIZE = 64 * 1024


def read_config_file(path: Path, *, is_required: bool = False) -> str:
    """A configuration file's text; empty if it does not exist and need not. Raises UserError if it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_SIZE + 1)
        if len(text) <= MAX_FILE_SIZE:
            return text
        why = "it is too long"
    except FileNotFoundError:
        if not is_required:
            return ""
        why = "it does not exist"
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except OSError as error:
        why = error.strerror or type(error).__name__
    raise UserError(
        f"the configuration file {path} cannot be read: {why}", exit_code=Exit.USAGE, code="bad_config"
    )


def configure_logging(level: int = logging.INFO) -> None:
    """Log lines to stderr: key=value, coloured on a terminal; debug where CODERD_DEBUG is set."""
    if os.environ.get("CODERD_DEBUG"):
        level = logging.DEBUG
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _show_values,
            # Its usual tracebacks show every local variable, tokens and private keys among them.
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_show_traceback),
        ],
    )


def _show_values(logger: object, method: str, event: Any) -> Any:
    """What others have written is in one line's values: it neither ends the line nor tells a terminal what to do."""
    return {key: value if key == "exc_info" else _shown(value) for key, value in event.items()}


def _shown(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return visible(value if isinstance(value, str) else repr(value))


def _show_traceback(stream: TextIO, exc_info: Any) -> None:
    """Indented, so that no line of an error's text passes for one of the log's."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n".join(f"  {visible(line)}" for line in text.getvalue().rstrip().split("\n")))
