"""Becomes a user's login shell on a terminal.

A process of its own: ``python -I -S login.py NAME UID GID HOME SHELL``.

Stands alone, with the standard library's help only, since it runs between the daemon and the user: what is
done here is done in one thread, before any code of the user's, and each id is looked at again after it was
given up. stdin is the PTY's slave; the process leads a session already. Environment: nothing of the daemon's
but the language.
"""

import ctypes
import fcntl
import os
import signal
import sys
import termios

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FAILED = 126
"""The exit code where the shell could not be run."""

_CLEAR_AMBIENT = (47, 4, 0, 0, 0)
"""prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL): the shell inherits no capability of the daemon's."""
_TTY_MODE = 0o600


def main() -> None:
    """Takes the terminal, becomes the user, runs the shell."""
    name, uid, gid, home, shell = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    become(name, uid, gid)
    os.umask(0o022)
    try:
        os.chdir(home)
    except OSError:
        os.chdir("/")
    restore_signals()
    os.execve(shell, ["-" + os.path.basename(shell)], environment(name, home, shell))


def become(name: str, uid: int, gid: int) -> None:
    """Gives up every id and capability but the user's. Raises OSError rather than keep one."""
    if os.geteuid() == 0:
        os.fchown(0, uid, -1)
        os.fchmod(0, _TTY_MODE)
        os.initgroups(name, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if ctypes.CDLL(None, use_errno=True).prctl(*_CLEAR_AMBIENT) != 0:
        raise OSError(ctypes.get_errno(), "the daemon's capabilities cannot be given up")
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError("the process is not the user")
    if uid != 0 and can_return():
        raise PermissionError("the process could become root again")


def restore_signals() -> None:
    """Restores the default handling of all signals, whatever this interpreter ignores.

    So a program whose reader has left ends quietly, and Ctrl-C interrupts.
    """
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def can_return() -> bool:
    """Returns whether root's ids can still be had."""
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        return False
    return True


def environment(name: str, home: str, shell: str) -> dict[str, str]:
    """Returns the environment that a login on a console gives."""
    own = {
        "HOME": home,
        "USER": name,
        "LOGNAME": name,
        "SHELL": shell,
        "PATH": PATH,
        "TERM": "xterm-256color",
    }
    return own | {key: value for key in ("LANG", "LC_ALL") if (value := os.environ.get(key))}


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"coderd: no shell for this terminal: {error}", file=sys.stderr)
        sys.exit(FAILED)
