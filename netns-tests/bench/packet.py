"""What the four functions of the data path cost per packet, alone in one process: no socket, no TUN, no other load."""

import argparse
import gc
import statistics
import struct
import time
from collections.abc import Callable

from bench.report import add_form_options, publish
from bench.results import OURS, Results
from coderd.tun import coalesce, split
from coderd.wireguard.transport import make_cipher, open_batch, seal_batch

SEGMENTS = 44
"""As many full packets of MTU 1420 as one super-packet and one sendmsg carry."""
MTU = 1420
HEADERS = 52
REPEATS = 300
TRIALS = 7


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


def per_packet(call: Callable[[], object]) -> list[float]:
    """Microseconds per packet of one call, several trials."""
    found = []
    for _ in range(TRIALS):
        begun = time.perf_counter()
        for _ in range(REPEATS):
            call()
        found.append((time.perf_counter() - begun) / REPEATS / SEGMENTS * 1e6)
    return found


def measure() -> dict[str, list[float]]:
    """Each function over the same super-packet."""
    virtio, packet = super_packet()
    cipher = make_cipher(bytes(32))
    segments = split(virtio, packet)
    datagrams = [memoryview(datagram) for datagram in seal_batch(cipher, 1, 0, segments, MTU)]
    gc.disable()
    try:
        return {
            "split": per_packet(lambda: split(virtio, packet)),
            "seal": per_packet(lambda: seal_batch(cipher, 1, 0, segments, MTU)),
            "open": per_packet(lambda: open_batch(cipher, datagrams)),
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
    total = sum(statistics.median(result.values[OURS]) for result in results)
    notes = [
        f"{SEGMENTS} packets of {MTU} bytes of one TCP stream over IPv4 at a time, one process, one core.",
        f"All four together: {total:.1f} us, of which each end of a tunnel pays two.",
    ]
    publish(options, "packet", results, table, notes)
