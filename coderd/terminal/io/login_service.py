r"""A login shell that systemd starts as its unit's user, for a connection of the daemon: ``coderd-login``.

    daemon                                   coderd-login, stdin is the connection
     |                      <- "terminal\n"  |   with the master of a PTY of the user's own
     |  (the PTY)                             |   a login shell on it
     |                      <- "0\n"         |   its exit code; the connection ends
     |  shutdown ->                           |   hangs up on the shell, and kills it if it stays

A daemon without the right to change its user can thus offer shells that its sandbox does not confine. The
socket's mode decides who may connect; the shells run as the unit's ``User=``, which only root can set.
"""

import fcntl
import os
import pwd
import select
import signal
import socket
import sys
import termios
from contextlib import suppress
from typing import Final

from coderd.terminal.io.login import FAILED, environment, restore_signals

CHECK_LINE: Final = b"terminal\n"
MAX_LINE: Final = 16
HANGUP_TIMEOUT: Final = 2.0
"""Seconds that a shell which is ended has before it is killed."""


def main() -> int:
    """Serves the connection that is stdin; returns the exit code of this process."""
    if os.getuid() == 0:
        print("coderd-login: no user is named; add User= to coderd-terminal@.service", file=sys.stderr)
        return FAILED
    try:
        with socket.socket(fileno=os.dup(0)) as connection:
            return _serve(connection)
    except (OSError, KeyError) as error:
        print(f"coderd-login: no shell for this connection: {error}", file=sys.stderr)
        return FAILED


def _serve(connection: socket.socket) -> int:
    account = pwd.getpwuid(os.getuid())
    master, slave = os.openpty()
    socket.send_fds(connection, [CHECK_LINE], [master])
    os.close(master)
    child = os.fork()
    if child == 0:
        connection.close()
        _become_shell(slave, account)
    os.close(slave)
    status = _follow(child, connection)
    code = os.waitstatus_to_exitcode(status)
    with suppress(OSError):  # where the daemon has closed the connection
        connection.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
    return 0


def _follow(child: int, connection: socket.socket) -> int:
    """Waits for the shell, or for the daemon to hang up on it; returns its wait status."""
    process = os.pidfd_open(child)
    poller = select.poll()
    poller.register(process, select.POLLIN)
    poller.register(connection, select.POLLIN | select.POLLRDHUP)
    ready = {fd for fd, _ in poller.poll()}
    if process not in ready:
        poller.unregister(connection)
        for number in (signal.SIGHUP, signal.SIGKILL):
            os.kill(child, number)
            if poller.poll(HANGUP_TIMEOUT * 1000):
                break
    os.close(process)
    return os.waitpid(child, 0)[1]


def _become_shell(terminal: int, account: pwd.struct_passwd) -> None:
    """Never returns."""
    try:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(terminal, fd)
        os.closerange(3, 256)
        os.umask(0o022)
        try:
            os.chdir(account.pw_dir)
        except OSError:
            os.chdir("/")
        shell = account.pw_shell or "/bin/sh"
        restore_signals()
        own = environment(account.pw_name, account.pw_dir, shell)
        os.execve(shell, ["-" + os.path.basename(shell)], own)
    except OSError as error:
        os.write(2, f"coderd: no shell for this terminal: {error}\r\n".encode())
    finally:
        os._exit(FAILED)


if __name__ == "__main__":
    sys.exit(main())
