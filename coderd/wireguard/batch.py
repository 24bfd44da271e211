"""Cuts a run of datagrams to one peer into batches, each of which one system call can send."""

from collections.abc import Sequence

MAX_DATAGRAMS = 64
MAX_BYTES = 65_000
"""Most bytes of a batch. From 65,494 bytes on the kernel hands the receiver single datagrams."""


def cut_batches(datagrams: Sequence[bytes]) -> list[list[bytes]]:
    """Cuts datagrams, in order, into batches of at most 64 datagrams and 65,000 bytes.

    In a batch all datagrams have one size, except for a shorter last one.

    A single datagram of more than 65,000 bytes is a batch by itself.
    """
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
