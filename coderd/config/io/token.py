"""How tokens are given: by file, stdin or prompt, never in the arguments, which every process can read."""

import sys
from getpass import getpass
from pathlib import Path

from coderd.model.errors import Exit, UserError
from coderd.model.visible import visible

MAX_TOKEN = 4096
"""Bytes of a token file; no token is longer."""


def read_token(token_file: str | None, url: str) -> str:
    """Returns a token out of a file, stdin or a prompt.

    Args:
        token_file: a path, ``-`` for stdin, or None: stdin where it is a pipe, a prompt where it is a
            terminal.
        url: the server, for the prompt.

    Raises:
        UserError: there is no token, or what was given is not one.
    """
    if token_file is not None and token_file != "-":
        token = _read_file(Path(token_file))
    elif token_file is None and sys.stdin is not None and sys.stdin.isatty():
        token = getpass(f"Token for {visible(url)}: ").strip()
    else:
        token = _first_line(sys.stdin.buffer.read(MAX_TOKEN + 1) if sys.stdin is not None else b"")
    if not token:
        raise UserError(
            "a token is needed, and none was given",
            exit_code=Exit.REFUSED,
            hint="Give it by --token-file PATH, or pipe it in.",
            code="no_token",
        )
    return token


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _first_line(file.read(MAX_TOKEN + 1))
    except OSError as error:
        raise UserError(
            f"the token file {path} cannot be read: {error.strerror}", exit_code=Exit.USAGE, code="no_token"
        ) from None


def _first_line(data: bytes) -> str:
    text = data.decode("ascii", errors="replace").strip()
    if len(data) > MAX_TOKEN or len(text.split()) > 1 or not text.isascii():
        raise UserError("what was given is not a token", exit_code=Exit.REFUSED, code="no_token")
    return text
