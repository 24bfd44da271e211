"""Identity that a node joins a server with. Pure."""

from dataclasses import dataclass, field

from coderd.config.url import parse_server_url
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NodeKind


@dataclass(frozen=True, slots=True)
class Identity:
    """What this node is to one server: its token, its node key and its kind."""

    url: str
    """URL of the server, with the pin of its certificate, if there is one."""
    token: str = field(repr=False)
    node_key: NodePrivate = field(repr=False)
    kind: NodeKind
    """Kind of this node, by the command that was used on this machine, not by the server."""

    @property
    def origin(self) -> str:
        """URL of the server without the pin: scheme, host and port."""
        return str(parse_server_url(self.url))
