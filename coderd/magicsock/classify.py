"""Tells STUN, disco and WireGuard apart on the UDP sockets that they share.

The second byte of a datagram decides.

```
STUN       >= 20 bytes, top two bits of byte 0 clear, byte 1 = 01 (Binding), bytes 4..7 = 21 12 a4 42 (RFC 8489 §5)
disco      >= 38 bytes, opens with 54 53 f0 9f 92 ac
WireGuard  bytes 1..3 are zero (paper §5.4); also everything that is neither of the others
```
"""

from enum import Enum

from coderd.disco import looks_like_disco
from coderd.model import Buffer
from coderd.stun import is_stun

WIREGUARD_SECOND_BYTE = 0
"""Second byte of every WireGuard message, and of no STUN or disco (WireGuard paper §5.4: reserved)."""
_BINDING = 1
"""Second byte of the STUN messages that we send and answer (RFC 8489 §18.2)."""


class Kind(Enum):
    """Protocol that a datagram speaks."""

    STUN = "stun"
    DISCO = "disco"
    WIREGUARD = "wireguard"


def classify(datagram: Buffer) -> Kind:
    """Returns a datagram's protocol by its first bytes. Total, and quick for WireGuard."""
    if len(datagram) < 2 or datagram[1] == WIREGUARD_SECOND_BYTE:
        return Kind.WIREGUARD
    if datagram[1] == _BINDING and is_stun(datagram):
        return Kind.STUN
    return Kind.DISCO if looks_like_disco(datagram) else Kind.WIREGUARD
