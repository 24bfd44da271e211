"""The saved login: which server this user is signed in to, and their token for it."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from coderd.config.io.token import read_token
from coderd.config.url import ServerUrl, check_secrecy, parse_server_url, trusted_url
from coderd.model.errors import Exit, UserError

if TYPE_CHECKING:
    from coderd.api.io.client import ApiClient


class Session(msgspec.Struct, frozen=True):
    """A server and this user's token for it, which is sent to this URL's origin only."""

    url: str
    """The server, with what it is trusted by: a pin, say."""
    token: str

    def __repr__(self) -> str:
        return f"Session(url={self.url!r}, token=<redacted>)"


def session_path() -> Path:
    """Returns ``$XDG_CONFIG_HOME/coderd/session.json``, by default under ~/.config.

    Under sudo it is the calling user's.
    """
    person = _behind_sudo()
    if person is not None:
        return Path(person.pw_dir) / ".config" / "coderd" / "session.json"
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "coderd" / "session.json"


def load_session() -> Session | None:
    """Returns the saved login; None if there is none, or if it cannot be read."""
    path = session_path()
    try:
        with _as_owner():
            return msgspec.json.decode(path.read_bytes(), type=Session)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def save_session(session: Session) -> None:
    """Saves a login atomically, mode 0600. Raises UserError if the file cannot be written."""
    path = session_path()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _as_owner():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(session))
            fresh.replace(path)
    except OSError as error:
        raise UserError(f"the login cannot be saved in {path}: {error.strerror}") from None


def forget_session() -> None:
    """Removes the saved login, if there is one."""
    path = session_path()
    with _as_owner():
        path.unlink(missing_ok=True)


def _behind_sudo() -> pwd.struct_passwd | None:
    """Returns the user who called ``sudo coderctl``.

    The login is theirs, so that ``coderctl`` without sudo finds it.
    """
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isascii() or not uid.isdigit() or int(uid) == 0:
        return None
    try:
        return pwd.getpwuid(int(uid))
    except KeyError:
        return None


@contextmanager
def _as_owner() -> Iterator[None]:
    """Runs its block with the rights of the user behind sudo.

    Root thus follows no symbolic link of theirs.
    """
    person = _behind_sudo()
    if person is None:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([person.pw_gid])
    os.setegid(person.pw_gid)
    os.seteuid(person.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def find_session(url: str | None, token_file: str | None, *, insecure: bool = False) -> Session:
    """Returns the server and token to use: what was given goes before what is saved.

    Raises:
        UserError: no server is known, or no token for it, or the token would travel unencrypted.
    """
    saved = load_session()
    if url is None and saved is None:
        raise UserError(
            "no server is known",
            exit_code=Exit.USAGE,
            hint="Name it with --url, or sign in first: sudo coderctl up https://SERVER:3000 --pin PIN",
            code="no_server",
        )
    return session_at(trusted_url(url if url is not None else _url_of(saved), insecure=insecure), token_file)


def session_at(url: ServerUrl, token_file: str | None) -> Session:
    """Returns this server, trusted as at sign-in unless the URL says otherwise, and the token for it.

    Raises:
        UserError: there is no token, or it would travel unencrypted; then it is not even asked for.
    """
    saved = saved_for(url)
    server = parse_server_url(saved.url) if saved is not None and not url.trust else url
    check_secrecy(server)
    if token_file is None and saved is not None:
        return Session(server.text, saved.token)
    return Session(server.text, read_token(token_file, str(url)))


def open_api(url: str | None, token_file: str | None, *, insecure: bool = False) -> "tuple[ApiClient, str]":
    """Returns a client of the server to use, and the server's URL with its trust. Raises UserError."""
    from coderd.api.io.client import ApiClient  # late: HTTP costs what status should not pay

    session = find_session(url, token_file, insecure=insecure)
    return ApiClient(session.url, session.token), session.url


def saved_for(url: ServerUrl) -> Session | None:
    """Returns the saved login if it is for this origin, else None: a token goes to no other origin."""
    saved = load_session()
    if saved is None or str(parse_server_url(saved.url)) != str(url):
        return None
    return saved


def _url_of(session: Session | None) -> str:
    return session.url if session is not None else ""
