"""A secret that came by the environment, without the environment having it.

The kernel shows the environment that a process was started with, /proc/PID/environ, for as long as the process lives, whatever
it unsets. So the process executes itself anew, in the same place, without the variable; the secret goes along in a memfd, which
is read and closed first thing. From then on neither that file, nor a child, nor a shell has it.

    started:   NAME=secret         execve, same pid        NAME_MEMFD=3         descriptor 3: the secret, sealed

What stood before us keeps its own environment: a shell that has exported the variable, a container's definition.
"""

import fcntl
import os
import sys
from typing import Final, NoReturn

from coderd.model.errors import Exit, UserError

MAX_SECRET: Final = 4096
_SUFFIX: Final = "_MEMFD"
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def take_from_environment(name: str) -> str | None:
    """The secret in a variable; None where there is none. Called first thing, before there are threads.

    Does not return where the variable is set: this process begins anew, and then returns from here with the secret.

    Raises:
        UserError: the process cannot be executed again, or was handed nonsense.
    """
    if handed := os.environ.pop(name + _SUFFIX, ""):
        return _receive(handed)
    secret = os.environ.pop(name, "")
    if not secret:
        return None
    try:
        _begin_anew(name, secret)
    except OSError as error:
        raise UserError(
            f"{name} cannot be taken out of the environment: {error.strerror}",
            hint="Give the secret by a file.",
            code="no_memfd",
        ) from None


def _begin_anew(name: str, secret: str) -> NoReturn:
    descriptor = os.memfd_create(name.lower(), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, os.fsencode(secret))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, name + _SUFFIX: str(descriptor)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _receive(handed: str) -> str:
    """What a descriptor holds that our own earlier self has sealed."""
    try:
        descriptor = int(handed)
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) != _SEALS:
            raise ValueError(handed)
        with open(descriptor, "rb") as file:
            file.seek(0)
            return os.fsdecode(file.read(MAX_SECRET))
    except (ValueError, OverflowError, OSError):
        raise UserError(
            f"the variable that ends in {_SUFFIX} is this program's own, and was set by somebody else",
            exit_code=Exit.USAGE,
            hint="Unset it.",
            code="no_memfd",
        ) from None
