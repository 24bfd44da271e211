"""What the functions of the data path cost per packet, alone in one process.

No socket, no TUN, no other load.
"""

import argparse
import gc
import statistics
import struct
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address

from bench.report import add_form_options, publish
from bench.results import OURS, Results
from coderd.model.keys import NodePublic
from coderd.model.ports import NO_PORTS
from coderd.packetfilter import PacketFilter, device_policy
from coderd.tun import coalesce, split
from coderd.wireguard.inner import admit
from coderd.wireguard.transport import make_cipher, open_batch, seal_batch

SEGMENTS = 44
"""As many full packets of MTU 1420 as one super-packet and one sendmsg carry."""
MTU = 1420
HEADERS = 52
REPEATS = 300
TRIALS = 7


DATA_PATH = frozenset({"split", "seal", "open", "coalesce"})


def super_packet() -> tuple[bytes, bytes]:
    """A TSO read of one TCP stream over IPv4, with timestamps, as the kernel hands it over."""
    payload = bytes(range(256)) * 256
    size = SEGMENTS * (MTU - HEADERS)
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, HEADERS + size, 1, 0x4000, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    tcp = struct.pack(">HHIIBBHHH", 5001, 40000, 1, 1, 0x80, 0x10, 500, 0, 0) + bytes.fromhex(
        "0101080a0000000100000002"
    )
    virtio = struct.pack("=BBHHHH", 1, 1, HEADERS, MTU - HEADERS, 20, 16)
    return virtio, ip + tcp + payload[:size]


PEER = NodePublic(b"p" * 32)
OWN, ITS = IPv6Address("fd60:627a:a42b::1").packed, IPv6Address("fd60:627a:a42b::2").packed


def segments_of_a_download() -> list[bytes]:
    """What one read brings of a TCP stream from a peer inside the tunnel, over IPv6 with timestamps."""
    size = MTU - 40
    ip = struct.pack(">IHBB16s16s", 6 << 28, size, 6, 64, ITS, OWN)
    return [
        ip
        + struct.pack(">HHIIBBHHH", 5001, 40000, 1 + at * 1328, 1, 0x80, 0x10, 500, 0, 0)
        + bytes(size - 20)
        for at in range(SEGMENTS)
    ]


def filter_of_a_download(outbound: bytes) -> PacketFilter:
    """A device's, that has begun it with a packet."""
    packet_filter = PacketFilter(counters=Counter())
    packet_filter.set_peers(OWN, {PEER: (ITS, device_policy(NO_PORTS))}, 0.0)
    packet_filter.note_outbound(outbound, 0.0)
    return packet_filter


def per_packet(call: Callable[[], object]) -> list[float]:
    """Microseconds of CPU time per packet of one call, several trials.

    A machine that others use tells the same.
    """
    found = []
    for _ in range(TRIALS):
        begun = time.process_time()
        for _ in range(REPEATS):
            call()
        found.append((time.process_time() - begun) / REPEATS / SEGMENTS * 1e6)
    return found


def measure() -> dict[str, list[float]]:
    """Each function over the same super-packet."""
    virtio, packet = super_packet()
    cipher = make_cipher(bytes(32))
    segments = split(virtio, packet)
    datagrams = [memoryview(datagram) for datagram in seal_batch(cipher, 1, 0, segments, MTU)]
    download = segments_of_a_download()
    acknowledgement = struct.pack(">IHBB16s16s", 6 << 28, 20, 6, 64, OWN, ITS) + struct.pack(
        ">HHIIBBHHH", 40000, 5001, 1, 1, 0x50, 0x10, 500, 0, 0
    )
    packet_filter = filter_of_a_download(acknowledgement)
    gc.disable()
    try:
        return {
            "split": per_packet(lambda: split(virtio, packet)),
            "seal": per_packet(lambda: seal_batch(cipher, 1, 0, segments, MTU)),
            "open": per_packet(lambda: open_batch(cipher, datagrams)),
            "source and destination": per_packet(lambda: admit(download, lambda source: source == ITS, OWN)),
            "filter": per_packet(lambda: packet_filter.admit(PEER, download, 1.0)),
            "filter, one packet at a time": per_packet(
                lambda: [packet_filter.admit(PEER, [packet], 1.0) for packet in download]
            ),
            "filter, per TUN read": per_packet(
                lambda: [packet_filter.note_outbound(acknowledgement, 1.0) for _ in range(SEGMENTS)]
            ),
            "coalesce": per_packet(lambda: coalesce(segments, uso=False)),
        }
    finally:
        gc.enable()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own part of the command line."""
    add_form_options(parser)


def run(options: argparse.Namespace) -> None:
    """Everything, and out with it."""
    results = Results()
    for name, found in measure().items():
        for value in found:
            results.add(name, "us per packet", OURS, value)
    rows = [f"| {result.case} | {result.cell(OURS)} |" for result in results]
    table = "\n".join(["| function | us per packet |", "| --- | --- |", *rows])
    total = sum(statistics.median(result.values[OURS]) for result in results if result.case in DATA_PATH)
    notes = [
        f"{SEGMENTS} packets of {MTU} bytes of one TCP stream at a time, one process, one core; CPU time.",
        f"The four of the data path together: {total:.1f} us, of which each end of a tunnel pays two.",
        '"source and destination" and "filter" are what the receiver asks of each packet between open and coalesce.',
    ]
    publish(options, "packet", results, table, notes)
