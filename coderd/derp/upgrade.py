"""HTTP requests and responses that turn a connection into DERP, and texts of why an upgrade failed. Pure.

An *upgrade* asks for the protocol by its name: ``Upgrade: DERP``. Many proxies, balancers and inspecting
firewalls pass no upgrade that they do not know; for them there is a *WebSocket* with the subprotocol
``derp``. A client that knows the relay's key beforehand may ask for a *fast start* of the upgrade: it sends
frames at once, and gets no HTTP response.
"""

from typing import Final

from coderd.derp.dial_plan import DialPlan
from coderd.http import ws_handshake

SUBPROTOCOL: Final = "derp"

WHY_FORCED: Final = "the relay map asks for it"
WHY_SILENT: Final = "the upgrade to DERP was not answered"
WHY_CLOSED: Final = "the connection was closed on the upgrade to DERP"
WHY_GARBLED: Final = "what answered the upgrade to DERP was no relay"


def why_status(status: int) -> str:
    """Returns the text of why an upgrade failed that was answered with a status other than 101."""
    return f"the proxy answered {status} to the upgrade"


def upgrade_request(plan: DialPlan, ideal_node: str, *, fast_start: bool = False) -> bytes:
    """Returns the request for an upgrade to DERP.

    Args:
        plan: the node that was reached.
        ideal_node: the name of the region's first node; sent if it is another node and printable ASCII.
        fast_start: whether the client sends frames without waiting for a response.
    """
    fields = ["Connection: Upgrade"]
    if fast_start:
        fields.append("Derp-Fast-Start: 1")
    if ideal_node != plan.node.name and ideal_node.isascii() and ideal_node.isprintable():
        fields.append(f"Ideal-Node: {ideal_node}")
    return _request(plan, [*fields, "Upgrade: DERP"])


def upgrade_response(server_key: bytes) -> bytes:
    """Returns the relay's response to an upgrade, to be written together with ServerKey."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n"
        b"Derp-Public-Key: " + server_key.hex().encode() + b"\r\n\r\n"
    )


def websocket_request(plan: DialPlan, key: str) -> bytes:
    """Returns the request for a WebSocket that carries DERP; ``key`` is its Sec-WebSocket-Key."""
    return _request(plan, [*ws_handshake.request_fields(key), f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"])


def websocket_refusal() -> bytes:
    """Returns the response to a WebSocket request of another version or with an invalid key."""
    return (
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n"
        b"Sec-WebSocket-Version: " + ws_handshake.VERSION.encode() + b"\r\n\r\n"
    )


def _request(plan: DialPlan, fields: list[str]) -> bytes:
    lines = ["GET /derp HTTP/1.1", f"Host: {plan.host_header}", "User-Agent: coderd", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
