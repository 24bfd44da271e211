"""The user that a terminal's shell runs as, and what decides it. The caller has looked the accounts up."""

from typing import NamedTuple, TypeAlias

from coderd.model.errors import Exit, UserError


class Account(NamedTuple):
    """A user of this machine, as the password database has it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


class LoginSocket(NamedTuple):
    """A Unix socket on which systemd starts a login shell per connection, as the user whom its unit names."""

    path: str

    @property
    def name(self) -> str:
        """Returns the path, as a name for the log."""
        return self.path


Login: TypeAlias = Account | LoginSocket
"""Where shells come from: the daemon becomes the account itself, or asks a socket for a shell."""


def check_account(account: Account | None, *, daemon_uid: int, is_asked_for: bool) -> Account:
    """Returns the account that shells run as, after checking that it is safe.

    Args:
        account: the account that the operator named, else the operator's own, else the daemon's.
        daemon_uid: the daemon's own user: only root can become another user.
        is_asked_for: whether this account was named for terminals, rather than taken by default.

    Raises:
        UserError: with Exit.USAGE: it was taken by default and is root, or the daemon's own, which can read
            the node's keys.
    """
    if account is None:
        raise _bad("the terminal has no user that this machine knows", "Add --terminal-user USER.")
    if account.uid == daemon_uid and not is_asked_for:
        raise _bad(
            f"the terminal would run as {account.name}, the daemon's own user",
            "Add --terminal-user USER; that user's name, if it is meant.",
        )
    if account.uid == 0 and not is_asked_for:
        raise _bad("the terminal would run as root", "Add --terminal-user USER; root, if it is meant.")
    if account.uid != daemon_uid and daemon_uid != 0:
        raise _bad(
            f"the terminal cannot run as {account.name}: only root can become another user",
            "Let systemd start shells (docs/terminal.md), or run the daemon as root.",
        )
    return account


def _bad(message: str, hint: str) -> UserError:
    return UserError(message, exit_code=Exit.USAGE, hint=hint, code="bad_terminal_user")
