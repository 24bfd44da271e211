"""Shells of configuration: the optional file, and where log lines go."""

import logging
import os
import sys
from pathlib import Path

import structlog

from coderd.model.errors import Exit, UserError

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
            # Its usual tracebacks show every local variable, tokens and private keys among them.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
    )
