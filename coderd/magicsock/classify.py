"""What a datagram on the one UDP socket is: STUN, disco or WireGuard, in this order.

```
STUN       >= 20 bytes, top two bits of byte 0 clear, byte 1 = 01 (Binding), bytes 4..7 = 21 12 a4 42
disco      >= 38 bytes, opens with 54 53 f0 9f 92 ac
WireGuard  everything else; begins with 01..04 and three zero bytes, so nothing overlaps
```
"""

from enum import Enum

from coderd.disco import looks_like_disco
from coderd.model import Buffer
from coderd.stun import is_stun

_DATA = 4
"""First byte of WireGuard transport data, which is nearly everything on a busy socket."""
_BINDING = 1


class Kind(Enum):
    """Which protocol a datagram speaks."""

    STUN = "stun"
    DISCO = "disco"
    WIREGUARD = "wireguard"


def classify(datagram: Buffer) -> Kind:
    """Tells a datagram's protocol by its first bytes; total, and quick for WireGuard's data."""
    if len(datagram) < 2 or (datagram[0] == _DATA and datagram[1] == 0):
        return Kind.WIREGUARD
    if datagram[1] == _BINDING and is_stun(datagram):
        return Kind.STUN
    return Kind.DISCO if looks_like_disco(datagram) else Kind.WIREGUARD
