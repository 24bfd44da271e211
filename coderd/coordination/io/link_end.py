"""Ends of a link to the server: the meaning of each error, and its explanation for people."""

import ssl

import msgspec
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError

from coderd.coordination.server_state import WRONG_KIND
from coderd.http.pinned import WrongCertificate
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.model.netmap import NodeKind

APPROVAL_INTERVAL = 10.0
"""Seconds between two attempts of a device that awaits an admin's approval."""
AWAITS_APPROVAL = (
    "this device waits for an admin's approval (coderctl devices approve), and joins by itself then"
)
_EXPIRED = "this device's time there has ended"
_HINTS = {
    "unauthorized": "Join it again with a new token.",
    "expired": "Sign in again: sudo coderctl up https://SERVER:3000",
}


class ServerLeaves(Exception):
    """End of a connection by the server, which expects the node back.

    Args:
        delay: seconds until then, at least.
        reason: why, for people.
    """

    def __init__(self, delay: float, reason: str = "the server restarts") -> None:
        super().__init__(reason)
        self.delay = delay


class _Rejection(msgspec.Struct, frozen=True):
    """Body of an HTTP answer that refuses the link."""

    code: str


LINK_ERRORS = (
    OSError,
    UnicodeError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    HandshakeError,
    ConnectionClosed,
    MalformedPacket,
    ServerLeaves,
)
"""Errors after which the server is dialled again."""


def refused(reason: str, code: str = "unauthorized") -> UserError:
    """Returns the error that ends the client: the server refuses this node's identity."""
    return UserError(
        f"the server refused this node: {reason}",
        exit_code=Exit.REFUSED,
        hint=_HINTS.get(code, ""),
        code=code,
    )


def wrong_kind(kind: NodeKind) -> UserError:
    """Returns the error that ends the client: the server takes a node of this kind for another kind."""
    return UserError(
        f"the server calls this machine another kind of node than the {kind.value} that its person made it",
        exit_code=Exit.REFUSED,
        hint="Do not use that server before its admin has explained this.",
        code=WRONG_KIND,
    )


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Returns the first single error inside a group; a rejection, which explains the others, before them."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.append(first_cause(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((leaf for leaf in leaves if isinstance(leaf, ConnectionRejected)), leaves[0])


def judge(rejected: ConnectionRejected) -> Exception:
    """Returns what a server means that does not open the link: a refusal, a wait, or a mere failure.

    The sentences are this program's own: a server's words reach no terminal from here.
    """
    code = _code_of(rejected)
    if rejected.status_code == 401:
        return refused(_EXPIRED if code == "expired" else "the server does not know this token", code)
    if rejected.status_code == 403 and code == "awaits_approval":
        return ServerLeaves(APPROVAL_INTERVAL, AWAITS_APPROVAL)
    return rejected


def _code_of(rejected: ConnectionRejected) -> str:
    """Returns the code that a refusal names if it is known here, else ``unauthorized``."""
    try:
        code = msgspec.json.decode(rejected.body or b"", type=_Rejection).code
    except msgspec.DecodeError:
        return "unauthorized"
    return code if code in ("expired", "awaits_approval") else "unauthorized"


def explain(error: BaseException | None) -> str:
    """Returns a clause for people about why the link is down."""
    match error:
        case None | ConnectionClosed():
            return "the server closed the connection"
        case ServerLeaves() | MalformedPacket():
            return str(error)
        case trio.TooSlowError():
            return "the server does not answer"
        case ConnectionRejected():
            return f"the server answered {error.status_code} instead of opening the link"
        case HandshakeError():
            return "the server does not speak WebSocket"
        case WrongCertificate():
            return f"the server is not trusted: {error}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case OSError():
            return error.strerror or str(error) or "the server cannot be reached"
        case UserError():
            return error.message
    return "the connection broke"
