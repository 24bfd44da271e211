"""The HTTP that turns a connection into DERP: requests, answers, and what a refusal means. Pure.

Two ways in. *Upgrade* asks for the protocol by its name: ``Upgrade: DERP``. Many a proxy, balancer or inspecting firewall
passes no upgrade that it does not know, so the second is a *WebSocket* with the subprotocol ``derp``. A client that knows
the relay's key beforehand may add a *fast start* to the first: it then sends on at once and gets no HTTP answer at all.
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
    """Why a node is reached by WebSocket where its upgrade got an HTTP answer other than 101."""
    return f"the proxy answered {status} to the upgrade"


def upgrade_request(plan: DialPlan, ideal_node: str, *, fast_start: bool = False) -> bytes:
    """The request for an upgrade to DERP.

    Args:
        plan: the node that was reached.
        ideal_node: the name of the region's first node; sent where it is another, and fit for a header.
        fast_start: whether the client goes on without waiting for the answer.
    """
    fields = ["Connection: Upgrade"]
    if fast_start:
        fields.append("Derp-Fast-Start: 1")
    if ideal_node != plan.node.name and ideal_node.isascii() and ideal_node.isprintable():
        fields.append(f"Ideal-Node: {ideal_node}")
    return _request(plan, [*fields, "Upgrade: DERP"])


def upgrade_response(server_key: bytes) -> bytes:
    """The relay's answer; ServerKey follows in the same write."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n"
        b"Derp-Public-Key: " + server_key.hex().encode() + b"\r\n\r\n"
    )


def websocket_request(plan: DialPlan, key: str) -> bytes:
    """Returns the request for a WebSocket that carries DERP."""
    return _request(plan, [*ws_handshake.request_fields(key), f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"])


def websocket_refusal() -> bytes:
    """The answer to a WebSocket of another version, or without a key."""
    return (
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n"
        b"Sec-WebSocket-Version: " + ws_handshake.VERSION.encode() + b"\r\n\r\n"
    )


def _request(plan: DialPlan, fields: list[str]) -> bytes:
    lines = ["GET /derp HTTP/1.1", f"Host: {plan.host_header}", "User-Agent: coderd", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
