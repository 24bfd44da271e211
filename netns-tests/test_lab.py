"""The laboratory leaves nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, LabError, ProgramFailed, until
from traces import processes_of, realm_made_by, traces

pytestmark = pytest.mark.alone("compares the machine's interfaces and mounts before and after")

HERE = Path(__file__).parent

BUILD_AND_WAIT = """
import sys
sys.path.insert(0, sys.argv[1])
from lab import Lab
with Lab("easy-nat") as lab:
    lab.dev.host.start(["sh", "-c", "(setsid sleep 1111 &); exec sleep 1111"])
    print("built", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    before = traces()
    yield
    assert traces() == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_nothing_is_left_when_the_lab_process_is_stopped_from_outside(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUILD_AND_WAIT, str(HERE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"built\n"
        realm = realm_made_by(builder.pid)
        assert len(processes_of(realm)) >= 8
        builder.send_signal(how)
        builder.wait(10)
    until(lambda: not processes_of(realm), "the lab's last process to end", timeout=5)


def test_nothing_is_left_after_a_failure_inside_the_with(capsys: pytest.CaptureFixture[str]) -> None:
    realm = ""

    def fail() -> None:
        nonlocal realm
        with Lab("no-nat") as lab:
            realm = os.readlink(f"/proc/{lab.user.host.pid}/ns/pid")
            lab.user.host.start(["sh", "-c", "echo last words; sleep 1111"]).wait_for("last words")
            raise RuntimeError("a test failed")

    with pytest.raises(RuntimeError):
        fail()
    assert not processes_of(realm)
    assert "last words" in capsys.readouterr().err


def test_what_a_host_writes_to_run_etc_and_var_lib_stays_in_the_lab() -> None:
    with Lab("no-nat") as lab:
        for place in ("/run", "/etc", "/var/lib"):
            lab.user.run(["sh", "-c", f"echo mine > {place}/coderd-lab-trace"])
            assert lab.user.host.path(f"{place}/coderd-lab-trace").read_text() == "mine\n"
            assert not lab.dev.host.path(f"{place}/coderd-lab-trace").exists()
            assert not Path(place, "coderd-lab-trace").exists()


def test_a_program_is_our_child_and_its_end_is_told() -> None:
    with Lab("no-nat") as lab:
        process = lab.user.host.start(["sh", "-c", "echo ready; exec sleep 1111"])
        process.wait_for("ready")
        assert process.is_running
        assert process.kill() == -signal.SIGKILL
        with pytest.raises(ProgramFailed, match="ended 7"):
            lab.user.run(["sh", "-c", "exit 7"])
        with pytest.raises(LabError, match="did not end within"):
            lab.user.run(["sleep", "1111"], timeout=0.1)
        with pytest.raises(LabError, match="before it said"):
            lab.user.host.start(["true"]).wait_for("something")


def test_a_capture_holds_what_passed() -> None:
    with Lab("no-nat") as lab, lab.user.host.udp("0.0.0.0") as sock:
        with (
            lab.capture(lab.server.host, "udp port 7777") as capture,
            lab.server.host.udp("0.0.0.0", 7777) as server,
        ):
            sock.sendto(b"a plaintext to find", (lab.server.address, 7777))
            server.recv(100)
        assert b"a plaintext to find" in capture.raw
        assert len(capture.packets()) == 1


def test_the_servers_link_is_counted() -> None:
    with Lab("no-nat") as lab:
        lab.internet.watch_server_link()
        assert lab.internet.server_link_bytes == 0
        lab.user.run(["ping", "-c", "1", "-s", "1000", lab.server.address])
        assert 2056 <= lab.internet.server_link_bytes < 2300
