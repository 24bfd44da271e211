"""Runs a typer app so that no traceback reaches a user.

Every error is a sentence, a next step and an exit code.
"""

import io
import os
import platform
import sys
from collections.abc import Mapping
from typing import NoReturn

import typer

from coderd.cli.say import note
from coderd.config.environment import DEBUG, unknown_names
from coderd.config.node import TOKEN_ENVIRONMENT
from coderd.model.errors import Exit, UserError

OLDEST_KERNEL = (5, 10)
COMPLETE = "__complete"
"""The hidden command that completion scripts call; it prints nothing but words."""

_ClickUsageError, _ClickException = typer.BadParameter.__mro__[1:3]
"""The exceptions of typer's own parser, whose module depends on typer's version."""


def run(app: typer.Typer, program: str) -> NoReturn:
    """Runs ``app`` on the process's arguments and ends the process."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal of another character set shows a question mark
    if sys.argv[1:2] != [COMPLETE]:
        warn_of_unknown_names(program, os.environ)
    code = run_app(app, program, sys.argv[1:])
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        _silence_stdout()
    sys.exit(code)


def warn_of_unknown_names(program: str, environment: Mapping[str, str]) -> None:
    """Warns on stderr of variables that look like ours and are not, once.

    A process begun anew does not warn again.
    """
    if f"{TOKEN_ENVIRONMENT}_MEMFD" not in environment:
        for unknown in unknown_names(environment):
            note(f"{program}: {unknown.sentence}")


def run_app(app: typer.Typer, program: str, arguments: list[str]) -> int:
    """Runs ``app`` and returns the exit code; an error is explained on stderr."""
    try:
        check_platform()
        result = typer.main.get_command(app).main(arguments, prog_name=program, standalone_mode=False)
        return result if isinstance(result, int) else Exit.DONE
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else Exit.FAILED
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return Exit.FAILED
    except (Exception, BaseExceptionGroup) as error:
        return _explain(program, error)


def _explain(program: str, error: BaseException) -> int:
    known = _only_leaf(error)
    if isinstance(known, UserError):
        show_error(program, known)
        return known.exit_code
    if isinstance(known, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(known, _ClickException):
        return _show_usage(program, known)
    if os.environ.get(DEBUG):
        sys.excepthook(type(error), error, error.__traceback__)
    show_error(
        program,
        UserError(
            f"an unexpected error occurred: {type(known).__name__}: {known}",
            hint=f"This is a defect. Set {DEBUG}=1 to see where it is.",
        ),
    )
    return Exit.FAILED


def _only_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


def _show_usage(program: str, error: BaseException) -> int:
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", program)
    message = str(getattr(error, "format_message", lambda: str(error))())
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(message + "\n")  # help, ours to the last letter
    else:
        # typer's own sentences, in the form that ours have after ``program:``.
        message = message[:1].lower() + message[1:].removesuffix(".")
        show_error(program, UserError(message, hint=f"See: {command} --help"))
    return Exit.USAGE


def show_error(program: str, error: UserError) -> None:
    """Prints ``program: message`` and, indented below it, the hint, on stderr."""
    note(f"{program}: {error.message}")
    if error.hint:
        note(f"  {error.hint}")


def check_platform() -> None:
    """Raises UserError unless this is Linux 5.10 or newer."""
    system, release = platform.system(), platform.release()
    if system == "Linux" and kernel_version(release) >= OLDEST_KERNEL:
        return
    raise UserError(
        f"coderd's nodes run on Linux {'.'.join(map(str, OLDEST_KERNEL))} or newer, and this is {system} {release}",
        exit_code=Exit.USAGE,
        hint="Use the server's page in a browser instead.",
        code="unsupported_platform",
    )


def kernel_version(release: str) -> tuple[int, int]:
    """Returns the first two numbers of a kernel's release; (0, 0) without any."""
    parts = [part for part in release.replace("-", ".").split(".")[:2] if part.isdigit()]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, 0)


def _silence_stdout() -> None:
    """Sends what is still buffered to /dev/null.

    Stdout's reader has gone, and Python's exit must not complain.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
