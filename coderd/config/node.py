"""The settings of ``coderd run``: one table, and the configuration that it makes.

``io.node`` makes it: users are looked up and the token is read there.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from coderd.config.kinds import DURATION, PATH, PORT, SWITCH, TEXT, number
from coderd.config.sources import Kind, Setting, Value, bad_value
from coderd.model.account import Login

DEFAULT_FILE = Path("/etc/coderd/coderd.toml")
DEFAULT_SOCKET = Path("/run/coderd/coderd.sock")
DEFAULT_STATE_DIR = Path("/var/lib/coderd")
DEFAULT_INTERFACE = "coder0"
DEFAULT_MTU = 1280
MAX_MTU = 9000
DEFAULT_AUTHORISED_FOR = 24 * 3600.0
TOKEN_ENVIRONMENT = "CODER_AGENT_TOKEN"
"""The workspace's token itself, as Coder's agents take it.

It is for containers that have no better place for secrets.
"""

_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)


def _interface(value: Value) -> str:
    if not _INTERFACE_NAME.fullmatch(value.text) or value.text in (".", ".."):
        raise bad_value(
            value, "an interface's name has 1 to 15 letters, digits, hyphens, dots or underscores"
        )
    return value.text


INTERFACE = Setting(
    "interface",
    "CODERD_INTERFACE",
    Kind("NAME", _interface),
    DEFAULT_INTERFACE,
    "The TUN device to make.",
)
SOCKET = Setting("socket", "CODERD_SOCKET", PATH, str(DEFAULT_SOCKET), "The control socket, for coderctl.")
STATE_DIR = Setting(
    "state_dir", "CODERD_STATE_DIR", PATH, str(DEFAULT_STATE_DIR), "The directory of keys and tokens."
)
MTU = Setting(
    "mtu", "CODERD_MTU", number(DEFAULT_MTU, MAX_MTU), str(DEFAULT_MTU), "The tunnel's MTU in bytes."
)
LISTEN_PORT = Setting(
    "listen_port",
    "CODERD_LISTEN_PORT",
    PORT,
    help="The UDP port.",
    shown_default="41641, or any other where that is taken",
)
BIRTHDAY = Setting(
    "birthday",
    "CODERD_BIRTHDAY",
    SWITCH,
    "false",
    "Search for random ports of NATs, with hundreds of sockets and pings. Both ends need it.",
    has_negation=True,
)
ACCESS_URL = Setting(
    "access_url", "CODER_AGENT_URL", TEXT, help="The server that a workspace joins.", metavar="URL"
)
PIN = Setting(
    "pin",
    "CODERD_SERVER_PIN",
    TEXT,
    help="The SHA-256 of the server's own certificate, as the server prints it.",
    metavar="sha256:HEX",
)
CA_FILE = Setting(
    "ca_file",
    "CODERD_SERVER_CA_FILE",
    PATH,
    help="Trust the server only if an authority in this file signed its certificate.",
    metavar="PEM",
)
INSECURE = Setting(
    "insecure",
    "CODERD_INSECURE",
    SWITCH,
    "false",
    "Send the token over plain HTTP, where everyone on the network path can read it.",
)
TOKEN_FILE = Setting(
    "token_file",
    "CODER_AGENT_TOKEN_FILE",
    TEXT,
    help=f"A file with the workspace's token, or - for stdin. {TOKEN_ENVIRONMENT} may hold the token itself.",
    metavar="PATH|-",
)
OPERATOR = Setting(
    "operator", "CODERD_OPERATOR", TEXT, help="A user who may manage this node, besides root.", metavar="USER"
)
AUTHORISED_FOR = Setting(
    "authorised_for",
    "CODERD_AUTHORISED_FOR",
    DURATION,
    "24h",
    "How long a workspace that cannot reach its server keeps its users; 0: for ever.",
)
LOCAL_USERS = Setting(
    "local_users",
    "CODERD_LOCAL_USERS",
    TEXT,
    "all",
    "Users of this machine who may send into the tunnel, besides root.",
    metavar="USER,...|all",
)
TERMINAL = Setting(
    "terminal",
    "CODERD_TERMINAL",
    SWITCH,
    "false",
    "Offer terminals to a workspace's users.",
    has_negation=True,
)
TERMINAL_USER = Setting(
    "terminal_user",
    "CODERD_TERMINAL_USER",
    TEXT,
    help="The user that terminals run as.",
    metavar="USER",
    shown_default="the operator",
)
TERMINAL_LOGIN = Setting(
    "terminal_login",
    "CODERD_TERMINAL_LOGIN",
    PATH,
    help="The socket on which systemd starts terminals as another user: see docs/terminal.md.",
    metavar="SOCKET",
)
NODE_SETTINGS = (
    INTERFACE,
    SOCKET,
    STATE_DIR,
    MTU,
    LISTEN_PORT,
    BIRTHDAY,
    ACCESS_URL,
    PIN,
    CA_FILE,
    INSECURE,
    TOKEN_FILE,
    OPERATOR,
    LOCAL_USERS,
    AUTHORISED_FOR,
    TERMINAL,
    TERMINAL_USER,
    TERMINAL_LOGIN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Configuration of one node.

    With ``access_url`` and ``token`` the node joins unattended, as a workspace does; without, it waits for
    ``coderctl up``.
    """

    interface: str = DEFAULT_INTERFACE
    socket_path: Path = DEFAULT_SOCKET
    state_dir: Path = DEFAULT_STATE_DIR
    mtu: int = DEFAULT_MTU
    """The tunnel's MTU in bytes, at least 1280 (RFC 8200 §5)."""
    listen_port: int | None = None
    """UDP port; None prefers 41641 and takes any other where that is in use."""
    plays_birthday: bool = False
    """Whether a random port of a peer's NAT, or of ours, may cost hundreds of sockets and pings."""
    access_url: str | None = None
    token: str | None = field(default=None, repr=False)
    authorised_for: float = DEFAULT_AUTHORISED_FOR
    """Seconds that a workspace without its server keeps the users it last heard of; 0 = for ever."""
    operator_uid: int | None = None
    """A user who may do on the control socket what root may."""
    local_users: frozenset[int] | None = None
    """Users, besides root and the daemon's own, who may send into the tunnel; None admits every user."""
    terminal: Login | None = None
    """Where the shells of terminals come from; None: no terminals."""
