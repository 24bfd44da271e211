"""WireGuard as a pure state machine, from bytes, commands and ``now`` to batches, packets and one deadline.

device        all peers of one key: routes by allowed IPs and index, keeps the schedule
peer          one peer: keypairs, timers, staged packets; handshake: its pending and accepted handshakes
handshake_gate  handshake messages: MAC1, a bounded queue, and under load MAC2 and a rate; the measure of load
transport     seal and open: all the cryptography of the data path, a batch at a time
inner         checks of decrypted packets, destination of a packet; ecn: congestion bits across the tunnel
noise         the handshake (Noise IKpsk2) as pure steps
message       layouts of the handshake messages
cookie        MAC1, MAC2, cookie replies; limiter: handshakes per source under load
keypair       the three session slots; replay: the window of counters
allowed_ips   longest prefix match; index_table: peer and session of an index
timers        every constant of time, and a peer's timer table; tai64n: the handshake's timestamp
local         state that all peers of a device share; batch: datagrams for one system call
uapi          the text protocol of wg and wg-quick
status        batches, packets, events and frozen snapshots that a device returns

No module waits, reads a clock or chooses a path. A ``source`` is an opaque value of the layer below.
"""

from coderd.wireguard.device import Device
from coderd.wireguard.status import (
    Authenticated,
    DeviceSecrets,
    DeviceStatus,
    Event,
    HandshakeCompleted,
    PeerStatus,
    Received,
    SessionExpired,
    Source,
    Transmit,
    Unanswered,
)

__all__ = [
    "Authenticated",
    "Device",
    "DeviceSecrets",
    "DeviceStatus",
    "Event",
    "HandshakeCompleted",
    "PeerStatus",
    "Received",
    "SessionExpired",
    "Source",
    "Transmit",
    "Unanswered",
]
