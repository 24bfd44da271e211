"""The life of a ``coderd wireguard`` process: how it starts, what it follows, every way in which it ends."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from lab import Host, Lab, ProgramFailed, until
from tunnels import connected, daemon_behind, start_ours, tun_flags, uapi_connection

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SOCKET = "/run/wireguard/wg0.sock"
LINK = "/sys/class/net/wg0"


@pytest.fixture
def host() -> Iterator[Host]:
    with Lab("no-nat") as lab:
        yield lab.user.host


def test_it_returns_when_wg_may_go_on_and_lets_go_of_its_output(host: Host) -> None:
    # cat ends when nobody holds the pipe any more.
    done = host.run(["sh", "-c", "coderd-wireguard wg0 2>&1 | cat; wg show wg0 dump"], timeout=20)
    assert done.stdout.split() == ["(none)", "(none)", "0", "off"]
    assert tun_flags(host, "wg0")
    assert host.path(f"{LINK}/mtu").read_text() == "1420\n"
    assert host.path(SOCKET).stat().st_mode & 0o777 == 0o700
    pid, _ = daemon_behind(host, "wg0")
    assert os.getsid(pid) != pid, "no leader of a session, so no terminal becomes its own"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda host, pid: os.kill(pid, signal.SIGTERM), id="SIGTERM"),
        pytest.param(lambda host, pid: os.kill(pid, signal.SIGINT), id="SIGINT"),
        pytest.param(lambda host, pid: host.path(SOCKET).unlink(), id="its socket is removed"),
        pytest.param(lambda host, pid: host.ip("link delete wg0"), id="its interface is deleted"),
    ],
)
@pytest.mark.parametrize("is_up", [False, True], ids=["down", "up"])
def test_it_ends_with_0_and_leaves_nothing(host: Host, end: Callable[[Host, int], None], is_up: bool) -> None:
    daemon = host.start(["coderd", "wireguard", "-f", "wg0"])
    until(host.path(SOCKET).exists, "the socket")
    until(lambda: _answers(host), "an answer")
    if is_up:
        host.ip("link set wg0 up")
    end(host, daemon.pid)
    assert daemon.wait(timeout=10) == 0
    assert daemon.output == ""
    assert not host.path(SOCKET).exists()
    assert not host.path(LINK).exists()


def test_the_environment_may_keep_it_in_the_foreground_and_make_it_talk(host: Host) -> None:
    with host.start(
        ["coderd-wireguard", "wg0"], env={"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "verbose"}
    ) as daemon:
        until(host.path(SOCKET).exists, "the socket")
        host.ip("link set wg0 up")
        daemon.wait_for("link changed")


def test_a_second_one_is_told_who_is_there_and_the_first_goes_on(host: Host) -> None:
    start_ours(host, "wg0")
    with pytest.raises(ProgramFailed, match="already a network interface named wg0") as caught:
        start_ours(host, "wg0")
    assert caught.value.code == 1
    assert host.run(["wg", "show", "interfaces"]).stdout == "wg0\n"


def test_a_socket_that_another_daemon_serves_is_left_alone(host: Host) -> None:
    start_ours(host, "wg0")
    host.ip("link set wg0 name other")
    with pytest.raises(ProgramFailed, match="another WireGuard daemon already answers") as caught:
        start_ours(host, "wg0")
    assert caught.value.code == 1
    assert not host.path(LINK).exists()
    assert _answers(host)


def test_what_a_killed_one_leaves_is_replaced(host: Host) -> None:
    start_ours(host, "wg0")
    os.kill(daemon_behind(host, "wg0")[0], signal.SIGKILL)
    until(lambda: not host.path(LINK).exists(), "the interface to go")
    assert host.path(SOCKET).exists()
    start_ours(host, "wg0")
    assert _answers(host)


def test_a_bad_name_is_refused_in_one_sentence(host: Host) -> None:
    with pytest.raises(ProgramFailed, match="cannot be the name of a network interface") as caught:
        host.run(["coderd-wireguard", "a-name-that-is-too-long"])
    assert caught.value.code == 2


def test_it_follows_the_mtu_and_link_down_ends_sessions_while_configuration_stays() -> None:
    with connected() as (ours, theirs):
        ours.ping(theirs)
        for mtu in (1300, 1420):
            ours.host.ip(f"link set ours0 mtu {mtu}")
            ours.ping(theirs, 4, "-c", "1", "-W", "5", "-M", "do", "-s", str(mtu - 28))
        config = ours.wg("showconf", "ours0")
        ours.host.ip("link set ours0 down")
        until(lambda: not ours.host.run(["ss", "-Hlun"]).stdout, "the sockets to be closed")
        assert ours.wg("showconf", "ours0") == config
        ours.host.ip("link set ours0 up")
        ours.ping(theirs)


def test_it_goes_on_in_another_network_namespace_where_its_interface_was_moved() -> None:
    with connected() as (ours, theirs):
        ours.ping(theirs)
        inside = ours.host.start(["unshare", "--net", "sleep", "60"])
        others = {os.readlink(f"/proc/{pid}/ns/net") for pid in ("self", ours.host.pid)}
        until(lambda: os.readlink(f"/proc/{inside.pid}/ns/net") not in others, "the namespace")
        ours.host.ip(f"link set ours0 netns {inside.pid}")
        # From outside the laboratory, where pids are what we mean by them.
        within = ["nsenter", f"--net=/proc/{inside.pid}/ns/net", "--"]
        address = f"{ours.addresses[4]}/24"
        subprocess.run([*within, "ip", "address", "add", address, "dev", "ours0"], check=True)
        subprocess.run([*within, "ip", "link", "set", "ours0", "up"], check=True)
        ping = [*within, "ping", "-c", "1", "-W", "1", theirs.addresses[4]]
        until(
            lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0,
            "an answer through the moved interface",
        )


def _answers(host: Host) -> bool:
    try:
        with uapi_connection(host, "wg0") as sock:
            sock.sendall(b"get=1\n\n")
            return sock.recv(4096).endswith(b"errno=0\n\n")
    except OSError:
        return False
