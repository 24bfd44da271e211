"""What ``coderd run`` was told, frozen."""

from dataclasses import dataclass, field
from pathlib import Path

from coderd.daemon.authority import DEFAULT_LIMIT
from coderd.terminal.account import Login

DEFAULT_SOCKET = Path("/run/coderd/coderd.sock")
DEFAULT_STATE_DIR = Path("/var/lib/coderd")
DEFAULT_LISTEN_PORT = 41641
DEFAULT_MTU = 1280


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Options of one node.

    With ``access_url`` and ``token`` the node joins unattended, as a workspace does; without, it waits for
    ``coderctl up``.
    """

    interface: str = "coder0"
    socket_path: Path = DEFAULT_SOCKET
    state_dir: Path = DEFAULT_STATE_DIR
    mtu: int = DEFAULT_MTU
    """The tunnel's MTU in bytes, at least 1280 as IPv6 demands."""
    listen_port: int | None = None
    """UDP port; None prefers 41641 and takes any other where that is in use."""
    plays_birthday: bool = False
    """Whether a random port of a peer's NAT, or of ours, may cost hundreds of sockets and pings."""
    access_url: str | None = None
    token: str | None = field(default=None, repr=False)
    authorised_for: float = DEFAULT_LIMIT
    """Seconds that a workspace cut off from its server keeps users whom it was told of; 0 = for ever."""
    operator_uid: int | None = None
    """A user who may do what root may on the control socket."""
    local_users: frozenset[int] | None = None
    """Who, besides root and the daemon itself, may send into the tunnel at all; None: everybody on this machine."""
    terminal: Login | None = None
    """Where the shells of terminals come from; None: a workspace offers none."""
