"""One machine of the laboratory: its own network, /run, host name, and private views of /etc and /var/lib."""

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from lab.process import LabError, Process, ProgramFailed
from lab.realm import CLONE_NEWNET, Realm, entered

PROJECT = Path(__file__).parents[2]
BIN = PROJECT / ".venv" / "bin"

HOME = "/run/home"
"""Where the programs of a host find and leave their own files: in its /run, so that they end with it."""

# -n everywhere: mount(8) would else note the lab's mounts in the machine's own /run/mount.
KEEPER = """
set -e
mount -n -t tmpfs -o mode=755 lab /run
mount -n -t sysfs lab /sys
mkdir -m 700 /run/home
mkdir -m 1777 /run/tmp
for dir in /etc /var/lib; do
    mkdir -p /run/.lab$dir/upper /run/.lab$dir/work
    mount -n -t overlay -o lowerdir=$dir,upperdir=/run/.lab$dir/upper,workdir=/run/.lab$dir/work lab $dir ||
        echo "$dir is the machine's own here: no overlay file system" >&2
done 2> /run/.lab-notes
# A device node of its own, as udev would make it: the machine's may be root's alone, and is never touched.
mknod -m 666 /run/.lab/tun c 10 200 && mount -n --bind /run/.lab/tun /dev/net/tun ||
    echo "/dev/net/tun is the machine's own here" >> /run/.lab-notes
hostname "$1"
ip link set lo up
echo ready
exec sleep infinity
"""


def memory_file(name: str, content: bytes = b"") -> BinaryIO:
    """A file that is nowhere but in memory, at its start: nobody need ever remove it."""
    file = os.fdopen(os.memfd_create(name), "w+b", buffering=0)
    file.write(content)
    file.seek(0)
    return file


class Host:
    """One machine. Everything it has lives in memory and in namespaces, so it needs no undoing."""

    def __init__(self, realm: Realm, name: str) -> None:
        self.name = name
        self.processes: list[Process] = []
        """All that were started here, for the story of a failure."""
        self.environment: dict[str, str] = {}
        """What every program here gets in its environment, over what `environ` makes."""
        self._realm = realm
        keeper = realm.keep(["unshare", "--net", "--mount", "--uts", "sh", "-c", KEEPER, "keeper", name])
        self.pid = keeper.pid
        """The pid, as we see it, of the process that holds its namespaces."""

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    # ---- programs

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = 30.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end, its output captured.

        Raises:
            ProgramFailed: it ended non-zero, and ``check`` holds.
            LabError: it did not end in time; it was killed.
        """
        child = self._realm.spawn(
            self._command(argv),
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environ(env),
            start_new_session=True,
        )
        try:
            out, err = child.communicate(input.encode() if input is not None else None, timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise LabError(
                f"{self.name}: {shlex.join(argv)} did not end within {timeout:g} s\n"
                f"{out.decode(errors='replace')}{err.decode(errors='replace')}"
            ) from None
        finally:
            if child.poll() is None:
                child.kill()
        done = subprocess.CompletedProcess(
            list(argv), child.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )
        if check and done.returncode != 0:
            raise ProgramFailed(argv, done.returncode, done.stdout, done.stderr)
        return done

    def start(
        self,
        argv: Sequence[str],
        *,
        name: str = "",
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        stderr_apart: bool = False,
    ) -> Process:
        """Start a program here and go on.

        Its output goes to its log; stderr to nowhere if ``stderr_apart``.
        """
        log = memory_file("log")
        with memory_file("stdin", (input or "").encode()) as stdin:
            child = self._realm.spawn(
                self._command(argv),
                stdin=stdin,
                stdout=log,
                stderr=subprocess.DEVNULL if stderr_apart else log,
                env=self.environ(env),
                start_new_session=True,
            )
        process = Process(name or f"{self.name}: {shlex.join(argv)[:70]}", child, log)
        self.processes.append(process)
        return process

    def popen(self, argv: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        """A bare child of ours on this host, its files inherited: for programs that own the terminal."""
        return self._realm.spawn(self._command(argv, cwd=os.getcwd()), env=self.environ(), **options)

    def python(self, code: str, *arguments: str, timeout: float = 30.0) -> str:
        """What a Python program prints when run here."""
        return self.run([sys.executable, "-c", code, *arguments], timeout=timeout).stdout

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of programs here.

        It is ours without our variables for coderd, home and temporary files.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if name == "CODERD_DEBUG" or not name.startswith(OPINIONS)
        }
        path = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ours = {"PATH": path, "HOME": HOME, "TMPDIR": "/run/tmp", "PYTHONUNBUFFERED": "1"}
        return {**kept, **ours, **self.environment, **(extra or {})}

    def _command(self, argv: Sequence[str], cwd: str = HOME) -> list[str]:
        # nsenter without a pid namespace does not fork: the child that we hold is the program itself.
        spaces = [f"--{kind}=/proc/{self.pid}/ns/{file}" for kind, file in SPACES]
        return ["nsenter", *spaces, f"--wdns={cwd}", "--", *argv]

    # ---- files and sockets, used from the test's own process

    def path(self, inside: str) -> Path:
        """A file of this host as we can open it from outside: ``host.path("/run/x").read_text()``."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def network(self) -> AbstractContextManager[None]:
        """Within, this thread's new sockets, and what it reads of /proc/sys/net, are this host's."""
        return entered(f"/proc/{self.pid}/ns/net", CLONE_NEWNET)

    @contextmanager
    def udp(self, address: str, port: int = 0) -> Iterator[socket.socket]:
        """A UDP socket of this host, bound, with a timeout of 2 s."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.network():
            sock = socket.socket(family, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(2.0)
            sock.bind((address, port))
            yield sock

    def answers_tcp(self, address: str, port: int) -> bool:
        """Whether a TCP connection from this host succeeds within a second."""
        with self.network():
            try:
                socket.create_connection((address, port), 1.0).close()
            except OSError:
                return False
        return True

    # ---- network configuration

    def ip(self, *commands: str) -> None:
        """Run ``ip`` commands here, in one batch."""
        self._configure(["ip", "-batch", "-"], "\n".join(commands))

    def nft(self, ruleset: str) -> None:
        """Load nftables text here, all or nothing."""
        self._configure(["nft", "-f", "-"], ruleset)

    def sysctl(self, **values: int) -> None:
        """Set network sysctls of this host: ``sysctl(ipv4__ip_forward=1)``, ``__`` standing for a slash."""
        with self.network():
            for name, value in values.items():
                Path("/proc/sys/net", name.replace("__", "/")).write_text(f"{value}\n", encoding="ascii")

    def _configure(self, argv: list[str], text: str) -> None:
        # From outside the realm, where pids in "netns PID" mean what we mean by them.
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *argv],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"{self.name}: {shlex.join(argv)} failed: {done.stderr.strip()}\n{text}")


OPINIONS = ("CODER_", "CODERD_", "PYTEST_", "PYTHONPATH", "XDG_")
"""Environment variables that would make the lab's machines depend on this one."""

SPACES = (("net", "net"), ("mount", "mnt"), ("uts", "uts"))
"""A host's namespaces: nsenter's word, and the file in /proc."""
