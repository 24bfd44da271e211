"""WireGuard as a pure state machine: bytes, commands and ``now`` go in; batches, packets and one deadline come out.

device        all peers behind one key: routes by allowed IPs and index, works off handshakes, keeps the schedule
peer          one peer: keypairs, timers, staged packets; handshake: what it and we may begin and finish
handshake_queue  handshake messages that wait their turn, and what counts as load
transport     seal and open: all the cryptography of the data path, a batch at a time
inner         what a decrypted packet must look like; where a packet goes; ecn: congestion across the wall
noise         the handshake (Noise IKpsk2) as pure steps
message       layouts of the handshake messages
cookie        MAC1, MAC2, cookie replies; limiter: handshakes per source under load
keypair       the three session slots; replay: the window of counters
allowed_ips   longest prefix match; index_table: who owns a session index
timers        every constant of time, and a peer's timer table; tai64n: the handshake's timestamp
local         what all peers of a device share; schedule: whose deadline is next; batch: what one sendmsg takes
uapi          the text protocol of wg and wg-quick
status        events and frozen snapshots for whoever owns a device

Nothing here waits, reads a clock or knows a path. ``source`` is whatever the layer below hands in.
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
