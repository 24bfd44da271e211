"""Types that every layer shares: keys, addresses, maps, deadlines. Pure; imports no other package of coderd.

keys        node and disco keys, their text forms
addresses   ip:port pairs, tailnet addresses
backoff     waits between attempts
deadline    when the next thing happens, and why
derpmap     relay regions and their nodes (Tailscale's JSON)
netmap      who this node is and whom it may talk to
paths       how traffic to a peer travels, and how it may
ports       sets of TCP and UDP ports, as people write them
transport   where batches of datagrams come from and go to
errors      MalformedPacket, and errors that a person reads
limits      every limit on what a server admits from outside
"""

from collections.abc import Callable
from typing import TypeAlias

RandomBytes: TypeAlias = Callable[[int], bytes]
"""A source of randomness: ``os.urandom`` in production, ``random.Random(seed).randbytes`` in tests."""

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes of a datagram or packet.

A ``memoryview`` is the reader's buffer: use it before returning, never keep it.
"""
