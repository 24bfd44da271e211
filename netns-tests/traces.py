"""What a careless laboratory would leave behind, looked for from outside."""

import os
from pathlib import Path


def traces() -> dict[str, object]:
    """The state of the machine's own namespaces that a lab must not change."""
    return {
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "run": sorted(os.listdir("/run")),
        "mounts": Path("/proc/self/mounts").read_text(encoding="utf-8"),
        "host name": os.uname().nodename,
    }


def processes_of(pid_namespace: str) -> list[int]:
    """Every process that lives in a pid namespace, on whatever host of the lab."""
    return [pid for pid in _pids() if _pid_namespace(pid) == pid_namespace]


def realm_made_by(maker: int) -> str:
    """The pid namespace that holds the hosts of a lab, by the process that made the lab."""
    own = _pid_namespace(os.getpid())
    realms = {_pid_namespace(pid) for pid in _pids() if _parent(pid) == maker} - {own, ""}
    (realm,) = realms
    return realm


def children_of(parent: int) -> list[int]:
    """The processes that a process has started."""
    return [pid for pid in _pids() if _parent(pid) == parent]


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:  # it has ended
        return ""


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
