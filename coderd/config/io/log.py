"""Where log lines go."""

import io
import logging
import os
import sys
from typing import Any, TextIO

import structlog

from coderd.config.environment import DEBUG
from coderd.model.visible import visible


def configure_logging(level: int = logging.INFO) -> None:
    """Sends log lines to stderr: key=value, coloured on a terminal.

    Lines of level debug are sent too where ``CODERD_DEBUG`` is set.
    """
    if os.environ.get(DEBUG):
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
    """Makes control characters in values visible, so that none ends its line or commands a terminal."""
    return {key: value if key == "exc_info" else _shown(value) for key, value in event.items()}


def _shown(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return visible(value if isinstance(value, str) else repr(value))


def _show_traceback(stream: TextIO, exc_info: Any) -> None:
    """Writes a traceback indented, so that no line of an error's text passes for one of the log's."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n".join(f"  {visible(line)}" for line in text.getvalue().rstrip().split("\n")))
