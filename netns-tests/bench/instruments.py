"""What is measured of a tunnel, from the two hosts it joins, and of the daemons that carry it."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from lab import Host, Lab, LabError, Process, ProgramFailed
from lab.topology import Family

from bench.contenders import Tunnel

GIGA = 1e9
KIBI = 1024
N_ECHOES = 100
WARM_UP = 1
"""Seconds of each transfer that do not count: congestion control finds its rate in them."""
SMALL = 64
"""Bytes of a small datagram's payload."""
SMALL_PORT = 5301
SMALL_WARM_UP = 0.3

SENDER = """
import socket, sys, time
address, port, size, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((address, port))
payload, until = bytes(size), time.monotonic() + seconds
while time.monotonic() < until:
    for _ in range(64):
        try:
            sock.send(payload)
        except OSError:
            pass
"""

# A timeout of the kernel's: one of Python's would cost a second system call for each datagram.
RECEIVER = """
import socket, struct, sys, time
address, port, warm_up, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))
sock.bind((address, port))
print("ready")
buffer = bytearray(2048)

def receive(seconds):
    began, n = time.monotonic(), 0
    while (spent := time.monotonic() - began) < seconds:
        try:
            for _ in range(64):
                sock.recv_into(buffer)
                n += 1
        except BlockingIOError:
            pass
    return n / spent

for _ in range(20):
    try:
        sock.recv_into(buffer)
        break
    except BlockingIOError:
        pass
receive(warm_up)
print("per second:", receive(seconds))
"""


def iperf(lab: Lab, address: str, options: Sequence[str], seconds: int) -> float:
    """Gbit/s of TCP that arrived, from the user to an address on dev or as the options say.

    Both directions are added up.

    Fails only when it fails twice: a connection that a busy machine timed out is no reason to throw a whole
    run away.
    """
    try:
        return _iperf(lab, address, options, seconds)
    except LabError:
        return _iperf(lab, address, options, seconds)


def _iperf(lab: Lab, address: str, options: Sequence[str], seconds: int) -> float:
    argv = ["iperf3", "--client", address, "--time", str(seconds), "--omit", str(WARM_UP), "--json", *options]
    with lab.dev.host.start(["iperf3", "--server", "--one-off", "--forceflush"], name="iperf3 -s") as server:
        server.wait_for("Server listening")
        try:
            end = json.loads(lab.user.run(argv, timeout=seconds + 20))["end"]
        except ProgramFailed as failure:
            raise LabError(f"iperf3 to {address} failed: {_reason(failure)}") from None
    received = end["sum_received"]["bits_per_second"]
    return float(received + end.get("sum_received_bidir_reverse", {}).get("bits_per_second", 0.0)) / GIGA


def _reason(failure: ProgramFailed) -> str:
    try:
        return str(json.loads(failure.stdout)["error"])
    except (ValueError, KeyError, TypeError):
        return f"exit code {failure.code}"


def round_trip(lab: Lab, address: str) -> float:
    """The median round trip of 100 echoes from the user, in milliseconds."""
    argv = ["ping", "-c", str(N_ECHOES), "-i", "0.01", "-W", "2", address]
    out = lab.user.host.run(argv, check=False, timeout=30).stdout
    times = [float(line.partition("time=")[2].split()[0]) for line in out.splitlines() if "time=" in line]
    if len(times) < N_ECHOES / 2:
        raise LabError(f"{address} answered {len(times)} of {N_ECHOES} echoes")
    return statistics.median(times)


def small_packets(lab: Lab, tunnel: Tunnel, family: Family, seconds: float) -> float:
    """Small datagrams per second that a program of dev's receives from one that sends as fast as it can."""
    address, port = tunnel.addresses[family], str(SMALL_PORT)
    receive = ["python3", "-c", RECEIVER, address, port, str(SMALL_WARM_UP), str(seconds)]
    send = ["python3", "-c", SENDER, address, port, str(SMALL), str(seconds + 30)]
    with lab.dev.host.start(receive, name="receiver of datagrams") as receiver:
        receiver.wait_for("ready")
        with lab.user.host.start(send, name="sender of datagrams"):
            receiver.wait_for("per second: ", timeout=seconds + 25)
        receiver.wait()
        return float(receiver.output.rpartition(":")[2])


def cpu_seconds(daemons: Sequence[Process]) -> float:
    """User and system time that processes have spent."""
    spent = 0
    for daemon in daemons:
        fields = Path(f"/proc/{daemon.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / os.sysconf("SC_CLK_TCK")


def received_gigabytes(lab: Lab, tunnel: Tunnel) -> float:
    """What has come out of a tunnel at both ends since it was made, headers inside it included."""
    hosts: tuple[Host, Host] = (lab.user.host, lab.dev.host)
    files = [
        host.path(f"/sys/class/net/{interface}/statistics/rx_bytes")
        for host, interface in zip(hosts, tunnel.interfaces, strict=True)
    ]
    return sum(int(file.read_text(encoding="ascii")) for file in files) / GIGA


def memory_megabytes(daemons: Sequence[Process]) -> tuple[float, float]:
    """Resident memory of the bigger daemon: now, and at its highest."""
    found: dict[str, list[int]] = {"VmRSS": [], "VmHWM": []}
    for daemon in daemons:
        for line in Path(f"/proc/{daemon.pid}/status").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name].append(int(value.split()[0]))
    now, highest = (max(values) * KIBI / 1e6 for values in found.values())
    return now, highest


def pin(daemons: Sequence[Process]) -> None:
    """Gives each daemon a core of its own, with all its threads."""
    cores = sorted(os.sched_getaffinity(0))
    for place, daemon in enumerate(daemons):
        for task in Path(f"/proc/{daemon.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cores[place % len(cores)]})
