"""Cuts a run of datagrams to one peer into what one system call can send."""

from collections.abc import Sequence

MAX_DATAGRAMS = 64
MAX_BYTES = 65_000
"""From 65,494 bytes on the kernel hands the receiver single datagrams."""


def cut_batches(datagrams: Sequence[bytes]) -> list[list[bytes]]:
    """Batches in order: all of one size but a shorter last, at most 64 datagrams and 65,000 bytes."""
    batches: list[list[bytes]] = []
    batch: list[bytes] = []
    segment = room = 0
    for datagram in datagrams:
        size = len(datagram)
        if not batch or size > segment or size > room or len(batch) == MAX_DATAGRAMS:
            batch = []
            batches.append(batch)
            segment, room = size, MAX_BYTES
        batch.append(datagram)
        room = room - size if size == segment else 0
    return batches
