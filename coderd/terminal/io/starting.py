"""How a shell comes to be.

A process of the daemon's that becomes the user, or one that systemd starts as the user.
"""

import os
import socket
import sys
from pathlib import Path
from signal import SIGHUP, SIGKILL
from stat import S_ISCHR
from typing import Final

import trio

from coderd.model.account import Account, Login, LoginSocket
from coderd.terminal.frames import Size
from coderd.terminal.io.login_service import CHECK_LINE, HANGUP_TIMEOUT, MAX_LINE
from coderd.terminal.io.shell import Shell, set_size

LOGIN: Final = Path(__file__).with_name("login.py")
START_TIMEOUT: Final = 8.0
"""Seconds that systemd may take from the connection to the terminal."""
END_TIMEOUT: Final = 2 * HANGUP_TIMEOUT


async def start_shell(login: Login, size: Size) -> Shell:
    """Starts a login shell on a PTY of this size. Raises OSError."""
    if isinstance(login, LoginSocket):
        return await _ask_for_shell(login, size)
    return await _become(login, size)


async def _become(account: Account, size: Size) -> Shell:
    master, slave = os.openpty()
    try:
        set_size(master, size)
        argv = [
            sys.executable, "-I", "-S", str(LOGIN),
            account.name, str(account.uid), str(account.gid), account.home, account.shell,
        ]  # fmt: skip
        process = await trio.lowlevel.open_process(
            argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd="/"
        )
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return Shell(_OwnProcess(process), master)


class _OwnProcess:
    """A child of the daemon's."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def end(self) -> None:
        for number in (SIGHUP, SIGKILL):
            if self._process.returncode is not None:
                return
            self._process.send_signal(number)
            with trio.move_on_after(HANGUP_TIMEOUT):
                await self._process.wait()


async def _ask_for_shell(login: LoginSocket, size: Size) -> Shell:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with trio.move_on_after(START_TIMEOUT) as scope:
            await sock.connect(login.path)
            master = await _receive_terminal(sock)
        if scope.cancelled_caught:
            raise TimeoutError("no terminal came in time")
    except BaseException:
        sock.close()
        raise
    try:
        set_size(master, size)
        os.set_blocking(master, False)
    except OSError:
        os.close(master)
        sock.close()
        raise
    return Shell(_RemoteProcess(sock), master)


async def _receive_terminal(sock: trio.socket.SocketType) -> int:
    """The PTY's master. Raises OSError for anything else that comes."""
    data, ancillary, _, _ = await sock.recvmsg(len(CHECK_LINE), socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    fds = [
        int.from_bytes(content[:4], sys.byteorder)
        for level, kind, content in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(content) >= 4
    ]
    if data == CHECK_LINE and len(fds) == 1 and S_ISCHR(os.fstat(fds[0]).st_mode) and os.isatty(fds[0]):
        return fds[0]
    for fd in fds:
        os.close(fd)
    raise ConnectionAbortedError("the login socket gave no terminal")


class _RemoteProcess:
    """A shell of systemd's: the connection lives as long as it, and says at the end how that was."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._line = b""

    async def wait(self) -> int:
        while not self._line.endswith(b"\n") and len(self._line) < MAX_LINE:
            try:
                data = await self._sock.recv(MAX_LINE)
            except OSError:
                break
            if not data:
                break
            self._line += data
        text = self._line.strip()
        return int(text) if text.isdigit() else 128 + SIGKILL

    async def end(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
            with trio.move_on_after(END_TIMEOUT):
                await self.wait()
        except OSError:
            pass
        finally:
            self._sock.close()
