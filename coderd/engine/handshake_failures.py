"""How many handshakes have failed, by cause: the server's words for what WireGuard counts. Pure."""

from typing import Final

from coderd.metrics import Counters

COUNTER_OF: Final = {
    "no_answer": "wireguard.gave_up",
    "refused": "wireguard.drop.handshake_refused",
    "unknown_peer": "wireguard.drop.unknown_peer",
    "rate": "wireguard.drop.handshake_rate",
    "mac1": "wireguard.drop.mac1",
    "queue_full": "wireguard.drop.handshake_queue_full",
}
"""Causes in the server's words, and the counters that count them."""


def handshake_failures(counters: Counters) -> dict[str, int]:
    """Returns the number of failed handshakes since the start, by cause; causes without one are left out."""
    counts = {cause: counters[name] for cause, name in COUNTER_OF.items()}
    return {cause: count for cause, count in counts.items() if count}
