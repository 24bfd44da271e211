"""The configuration of ``coderd run``: flag > environment > /etc/coderd/coderd.toml."""

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from coderd.cli.login import read_token
from coderd.cli.options import TOKEN_ENVIRONMENT
from coderd.cli.values import parse_duration
from coderd.config.sources import Setting, Sources, Value, as_bool, bad_value, parse_file
from coderd.config.url import ServerUrl, check_secrecy, trusted_url
from coderd.daemon.config import DEFAULT_MTU, DEFAULT_SOCKET, DEFAULT_STATE_DIR, NodeConfig
from coderd.model.errors import Exit, UserError
from coderd.terminal.account import Account, Login, LoginSocket, check_account

DEFAULT_FILE = Path("/etc/coderd/coderd.toml")
DEFAULT_INTERFACE = "coder0"
MAX_MTU = 9000

INTERFACE = Setting("interface", "CODERD_INTERFACE", DEFAULT_INTERFACE)
SOCKET = Setting("socket", "CODERD_SOCKET", str(DEFAULT_SOCKET))
STATE_DIR = Setting("state_dir", "CODERD_STATE_DIR", str(DEFAULT_STATE_DIR))
MTU = Setting("mtu", "CODERD_MTU", str(DEFAULT_MTU))
LISTEN_PORT = Setting("listen_port", "CODERD_LISTEN_PORT")
BIRTHDAY = Setting("birthday", "CODERD_BIRTHDAY", "false")
ACCESS_URL = Setting("access_url", "CODER_AGENT_URL")
PIN = Setting("pin", "CODERD_SERVER_PIN")
CA_FILE = Setting("ca_file", "CODERD_SERVER_CA_FILE")
INSECURE = Setting("insecure", "CODERD_INSECURE", "false")
TOKEN_FILE = Setting("token_file", "CODER_AGENT_TOKEN_FILE")
OPERATOR = Setting("operator", "CODERD_OPERATOR")
LOCAL_USERS = Setting("local_users", "CODERD_LOCAL_USERS", "all")
TERMINAL = Setting("terminal", "CODERD_TERMINAL", "false")
TERMINAL_USER = Setting("terminal_user", "CODERD_TERMINAL_USER")
TERMINAL_LOGIN = Setting("terminal_login", "CODERD_TERMINAL_LOGIN")
AUTHORISED_FOR = Setting("authorised_for", "CODERD_AUTHORISED_FOR", "24h")
SETTINGS = (
    INTERFACE, SOCKET, STATE_DIR, MTU, LISTEN_PORT, BIRTHDAY, ACCESS_URL, PIN, CA_FILE, INSECURE, TOKEN_FILE, OPERATOR,
    AUTHORISED_FOR, LOCAL_USERS, TERMINAL, TERMINAL_USER, TERMINAL_LOGIN,
)  # fmt: skip

_LAST_UID = 2**32 - 2
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)


def parse_node_config(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file_text: str = "",
    file_path: str = str(DEFAULT_FILE),
) -> NodeConfig:
    """The configuration out of flags (by setting name), environment and the file's text; reads the token, if any.

    Raises:
        UserError: with Exit.USAGE, naming the setting and where its value came from.
    """
    sources = Sources(flags, environment, parse_file(file_text, SETTINGS, file_path))
    access_url, token = _identity(sources)
    return NodeConfig(
        interface=_interface(sources.get(INTERFACE)),
        socket_path=_path(sources.get(SOCKET)),
        state_dir=_path(sources.get(STATE_DIR)),
        mtu=_number(sources.get(MTU), DEFAULT_MTU, MAX_MTU),
        listen_port=_optional_port(sources.find(LISTEN_PORT)),
        plays_birthday=as_bool(sources.get(BIRTHDAY)),
        access_url=access_url,
        token=token,
        authorised_for=parse_duration(sources.get(AUTHORISED_FOR).text),
        operator_uid=_user(sources.find(OPERATOR)),
        local_users=_local_users(sources.get(LOCAL_USERS)),
        terminal=_terminal(sources),
    )


def _identity(sources: Sources) -> tuple[str | None, str | None]:
    """The server and token of a node that joins unattended; neither, where it waits for ``coderctl up``."""
    url, file = sources.find(ACCESS_URL), sources.find(TOKEN_FILE)
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
            hint=f"Add {TOKEN_FILE.flag} PATH, or - for stdin; a user's own machine needs neither, see coderctl up.",
        )
    check_secrecy(server)
    return server.text, read_token(file.text, str(server)) if file is not None else token


def _server(url: Value, sources: Sources) -> ServerUrl:
    """The server as its URL and the settings beside it say that it is trusted."""
    pin, ca_file = sources.find(PIN), sources.find(CA_FILE)
    if ca_file is not None and not _path(ca_file).is_file():
        raise bad_value(ca_file, "there is no such file")
    return trusted_url(
        url.text,
        pin=None if pin is None else pin.text,
        ca_file=None if ca_file is None else str(_path(ca_file)),
        insecure=as_bool(sources.get(INSECURE)),
    )


def _interface(value: Value) -> str:
    if not _INTERFACE_NAME.fullmatch(value.text) or value.text in (".", ".."):
        raise bad_value(
            value, "an interface's name has 1 to 15 letters, digits, hyphens, dots or underscores"
        )
    return value.text


def _path(value: Value) -> Path:
    return Path(value.text).absolute()


def _number(value: Value, low: int, high: int) -> int:
    if not (value.text.isascii() and value.text.isdigit() and low <= int(value.text) <= high):
        raise bad_value(value, f"it is no number between {low} and {high}")
    return int(value.text)


def _optional_port(value: Value | None) -> int | None:
    return None if value is None else _number(value, 1, 65535)


def _local_users(value: Value) -> frozenset[int] | None:
    """Numbers of users, from names and numbers with commas between them; None for ``all``."""
    if value.text.strip() == "all":
        return None
    uids = set[int]()
    for name in filter(None, (part.strip() for part in value.text.split(","))):
        uid = _user(value._replace(text=name))
        if uid is None or uid > _LAST_UID:
            raise bad_value(value, f"there is no user {name}")
        uids.add(uid)
    if not uids:
        raise bad_value(value, "name users with commas between them, or all")
    return frozenset(uids)


def _terminal(sources: Sources) -> Login | None:
    """Where shells come from: a login socket, the user named, else the operator, else whoever runs the daemon; None: no terminals."""
    if not as_bool(sources.get(TERMINAL)):
        return None
    named = sources.find(TERMINAL_USER)
    if (login := sources.find(TERMINAL_LOGIN)) is not None:
        if named is not None:
            raise bad_value(named, "where systemd starts shells, its unit says whose they are")
        return LoginSocket(str(_path(login)))
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
    """A user's number, from a name or a number."""
    if value is None:
        return None
    if value.text.isascii() and value.text.isdigit():
        return int(value.text)
    try:
        return pwd.getpwnam(value.text).pw_uid
    except (KeyError, ValueError):
        raise bad_value(value, "this machine has no such user") from None
