"""Takes a secret out of the environment, so that /proc/PID/environ does not show it.

The kernel shows the environment that a process was started with in /proc/PID/environ for as long as the
process lives, whatever variables the process unsets. The process therefore writes the secret to a sealed
memfd and executes itself again, without the variable. The new program reads and closes the memfd. From then
on neither that file nor the environment of a child process has the secret.

    started: NAME=secret    execve, same pid    NAME_MEMFD=3    descriptor 3: the secret, sealed

Environments outside the process keep the variable: a shell that has exported it, a container's definition.
"""

import fcntl
import os
import sys
from typing import Final, NoReturn

from coderd.model.errors import Exit, UserError

MAX_SECRET: Final = 4096
"""Bytes of a secret that are read at most; the rest is cut off."""
_SUFFIX: Final = "_MEMFD"
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def take_from_environment(name: str) -> str | None:
    """Returns the secret in an environment variable, or None where the variable is unset or empty.

    Does not return where the variable is set: the process executes itself again without it (execve(2)), and
    the new program's call returns the secret. To be called before any thread is started.

    Raises:
        UserError: the process cannot be executed again, or ``<name>_MEMFD`` does not name a memfd sealed by
            this module.
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
    """Executes this program again, with the secret in a sealed, inherited memfd: ``<name>_MEMFD``."""
    descriptor = os.memfd_create(name.lower(), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, os.fsencode(secret))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, name + _SUFFIX: str(descriptor)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _receive(handed: str) -> str:
    """Returns the secret in the memfd with this descriptor number, and closes the memfd.

    Raises:
        UserError: there is no such descriptor, or it is not a memfd with all seals of this module.
    """
    try:
        descriptor = int(handed)
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) != _SEALS:
            raise ValueError(handed)
        with open(descriptor, "rb") as file:
            file.seek(0)
            return os.fsdecode(file.read(MAX_SECRET))
    except (ValueError, OverflowError, OSError):
        raise UserError(
            f"the variable that ends in {_SUFFIX} is this program's own, and was set by another program",
            exit_code=Exit.USAGE,
            hint="Unset it.",
            code="no_memfd",
        ) from None
