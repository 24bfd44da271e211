"""What tcpdump saw on a host, kept in memory."""

import shutil
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lab.host import Host
from lab.process import LabError
from lab.waiting import until

PCAP_HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")


class Packet(NamedTuple):
    """One frame off the wire, from its Ethernet header on."""

    seen_at: float
    frame: bytes


class Capture:
    """A running capture; whole once its ``with`` has ended."""

    def __init__(self) -> None:
        self._pcap = b""

    def close(self, pcap: bytes) -> None:
        """Take the finished pcap file."""
        self._pcap = pcap

    @property
    def raw(self) -> bytes:
        """Everything as tcpdump wrote it: good for looking for a plaintext that must not be there."""
        return self._pcap

    def packets(self) -> list[Packet]:
        """Each frame that was seen, in order."""
        found = []
        offset = PCAP_HEADER.size
        while offset + RECORD.size <= len(self._pcap):
            seconds, micros, length, _ = RECORD.unpack_from(self._pcap, offset)
            offset += RECORD.size
            found.append(Packet(seconds + micros / 1e6, self._pcap[offset : offset + length]))
            offset += length
        return found


@contextmanager
def capture(host: Host, expression: str = "", *, interface: str = "eth0") -> Iterator[Capture]:
    """Record what passes an interface of a host.

    Args:
        host: where.
        expression: tcpdump's filter, such as ``udp port 41641``.
        interface: which one.
    """
    if shutil.which("tcpdump") is None:
        raise LabError("no tcpdump here; run scripts/install --dev")
    options = ["--immediate-mode", "-U", "-n", "-p", "-s0", "-B", "16384", "-Z", "root"]
    notes = f"/run/tmp/tcpdump-{interface}"
    command = f'exec tcpdump {" ".join(options)} -i {interface} -w - -- "$1" 2> {notes}'
    seen = Capture()
    process = host.start(["sh", "-c", command, "tcpdump", expression], name=f"{host.name}: tcpdump")

    def is_listening() -> bool:
        if not process.is_running:
            raise LabError(f"tcpdump ended {process.code}: {host.path(notes).read_text()}")
        return host.path(notes).exists() and "listening on" in host.path(notes).read_text()

    try:
        until(is_listening, "tcpdump to listen")
        yield seen
    finally:
        process.signal(signal.SIGINT)
        process.wait(timeout=5)
        process.close()
        host.processes.remove(process)
        seen.close(process.raw_output)
