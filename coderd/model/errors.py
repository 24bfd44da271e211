"""Errors that cross layers: one for hostile bytes, one for people."""

from enum import IntEnum


class MalformedPacket(ValueError):
    """Bytes from outside that do not follow their format. The only thing that a ``parse_*`` raises."""


class Exit(IntEnum):
    """Exit codes of ``coderctl`` and ``coderd``, documented in docs/exit-codes.md."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NO_SUCH_WORKSPACE = 5
    TIMED_OUT = 6
    ONLY_RELAYED = 10
    NO_PATH = 11
    LAB_FAILED = 125
    INTERRUPTED = 130


def sentence_of(message: str) -> str:
    """Returns a message as a whole sentence: with a capital at its beginning and a full stop."""
    return f"{message[:1].upper()}{message[1:]}."


class UserError(Exception):
    """Error for a person to read: what happened and why in one sentence, and what to do next.

    Args:
        message: one sentence, what and why, as it stands after ``coderctl:``: no capital of its own, no full
            stop.
        exit_code: the process's exit code if nothing handles it.
        hint: what to do next, a whole sentence on its own line; may be empty.
        code: a short machine-readable word for ``--json`` and the control socket, such as
            ``no_such_workspace``.
    """

    def __init__(
        self, message: str, *, exit_code: Exit = Exit.FAILED, hint: str = "", code: str = "failed"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.code = code

    @property
    def sentence(self) -> str:
        """The message as a whole sentence, for where it does not follow the program's name."""
        return sentence_of(self.message)


def first_user_error(group: BaseExceptionGroup[UserError]) -> UserError:
    """Returns the first error of a group, however deep, for a person to read.

    The group is what a nursery's tasks raised.
    """
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    return error
