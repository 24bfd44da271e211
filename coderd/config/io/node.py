"""``NodeConfig`` out of all sources: flag > environment > /etc/coderd/coderd.toml."""

import os
import pwd
from collections.abc import Mapping

from coderd.config.io.token import read_token
from coderd.config.kinds import parts_of
from coderd.config.node import (
    ACCESS_URL,
    AUTHORISED_FOR,
    BIRTHDAY,
    CA_FILE,
    DEFAULT_FILE,
    INSECURE,
    INTERFACE,
    LISTEN_PORT,
    LOCAL_USERS,
    MTU,
    NODE_SETTINGS,
    OPERATOR,
    PIN,
    SOCKET,
    STATE_DIR,
    TERMINAL,
    TERMINAL_LOGIN,
    TERMINAL_USER,
    TOKEN_ENVIRONMENT,
    TOKEN_FILE,
    NodeConfig,
)
from coderd.config.sources import Sources, Value, bad_value, parse_file
from coderd.config.url import ServerUrl, check_secrecy, trusted_url
from coderd.model.account import Account, Login, LoginSocket, check_account
from coderd.model.errors import Exit, UserError

_LAST_UID = 2**32 - 2
"""The highest number of a user; the next one means "no user" to system calls."""


def parse_node_config(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file_text: str = "",
    file_path: str = str(DEFAULT_FILE),
) -> NodeConfig:
    """Returns the configuration out of flags (by setting name), environment and the file's text.

    Reads the token, if any.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    sources = Sources(flags, environment, parse_file(file_text, NODE_SETTINGS, file_path))
    access_url, token = _identity(sources)
    return NodeConfig(
        interface=sources.get(INTERFACE),
        socket_path=sources.get(SOCKET),
        state_dir=sources.get(STATE_DIR),
        mtu=sources.get(MTU),
        listen_port=sources.given(LISTEN_PORT),
        plays_birthday=sources.get(BIRTHDAY),
        access_url=access_url,
        token=token,
        authorised_for=sources.get(AUTHORISED_FOR),
        operator_uid=_user(sources.find(OPERATOR)),
        local_users=_local_users(sources.find(LOCAL_USERS)),
        terminal=_terminal(sources),
    )


def _identity(sources: Sources) -> tuple[str | None, str | None]:
    """Returns an unattended node's server and token; (None, None) where it waits for ``coderctl up``."""
    url, file = sources.given(ACCESS_URL), sources.given(TOKEN_FILE)
    token = sources.environment.get(TOKEN_ENVIRONMENT)
    if url is None and file is None and not token:
        return None, None
    if url is None:
        raise UserError(
            "a token is given, but no server to use it at",
            exit_code=Exit.USAGE,
            hint=f"Add {ACCESS_URL.flag} https://SERVER:3000.",
        )
    server = _server(url, sources)
    if file is None and not token:
        raise UserError(
            f"a server is given, but no token to join {server} with",
            exit_code=Exit.USAGE,
            hint=f"Add {TOKEN_FILE.flag} PATH, or - for stdin."
            " A user's own machine needs neither: see coderctl up.",
        )
    check_secrecy(server)
    return server.text, token if file is None else read_token(file, str(server))


def _server(url: str, sources: Sources) -> ServerUrl:
    """Returns the server with the trust that the URL and the settings beside it give it."""
    ca_file = sources.given(CA_FILE)
    if ca_file is not None and not ca_file.is_file():
        raise bad_value(_found(sources.find(CA_FILE)), "there is no such file")
    return trusted_url(
        url,
        pin=sources.given(PIN),
        ca_file=None if ca_file is None else str(ca_file),
        insecure=sources.get(INSECURE),
    )


def _found(value: Value | None) -> Value:
    assert value is not None
    return value


def _local_users(value: Value | None) -> frozenset[int] | None:
    """Returns the numbers of users given by name or number with commas between them; None for ``all``."""
    if value is None or value.text.strip() == "all":
        return None
    uids = set[int]()
    for name in parts_of(value):
        uid = _user(value._replace(text=name))
        if uid is None or uid > _LAST_UID:
            raise bad_value(value, f"there is no user {name}")
        uids.add(uid)
    if not uids:
        raise bad_value(value, "name users with commas between them, or all")
    return frozenset(uids)


def _terminal(sources: Sources) -> Login | None:
    """Returns where shells come from, None for no terminals.

    That is a login socket, else the user named for it, else the operator, else the daemon's own user.
    """
    if not sources.get(TERMINAL):
        return None
    named = sources.find(TERMINAL_USER)
    if (login := sources.given(TERMINAL_LOGIN)) is not None:
        if named is not None:
            raise bad_value(named, f"with {TERMINAL_LOGIN.flag} systemd's unit names the user")
        return LoginSocket(str(login))
    uid = _user(named if named is not None else sources.find(OPERATOR))
    own = os.geteuid()
    account = _account(own if uid is None else uid)
    return check_account(account, daemon_uid=own, is_asked_for=named is not None)


def _account(uid: int) -> Account | None:
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell or "/bin/sh")


def _user(value: Value | None) -> int | None:
    """Returns a user's number, given by name or number. Raises UserError for an unknown name."""
    if value is None:
        return None
    if value.text.isascii() and value.text.isdigit():
        return int(value.text)
    try:
        return pwd.getpwnam(value.text).pw_uid
    except (KeyError, ValueError):
        raise bad_value(value, "this machine has no such user") from None
