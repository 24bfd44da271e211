"""Every exit code of docs/exit-codes.md, from the real commands against real daemons.

::

    user ──[easy NAT]── core ──[easy NAT]── dev      nothing in the way: direct
                          │
                        server

    user ──[easy NAT, TCP only]── core ──[easy NAT, TCP only]── dev      relayed for ever
                                    │
                                  server
"""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Host, Lab, Process
from people import NOBODY, as_user

from coderd.model.errors import Exit

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

PROJECT = Path(__file__).parents[1]
OLD_KERNEL = ["setarch", "--uname-2.6"]
"""Makes the kernel say that it is 2.6, as it does for programs that cannot believe in later ones."""
INTERRUPTIBLE = ["env", "--default-signal=INT"]
"""Whoever runs the tests in the background may have had ^C ignored, which children inherit."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("easy-nat") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct")
        yield lab


@pytest.fixture(scope="module")
def relayed() -> Iterator[Lab]:
    with Lab("udp-blocked") as lab:
        lab.join()
        yield lab


@pytest.fixture(scope="module", autouse=True)
def patient_speed_test(relayed: Lab) -> Process:
    """The one command here that takes its time before it gives up: begun first, looked at last."""
    return relayed.user.host.start(["coderctl", "speedtest", "dev", "--direct"], name="speedtest --direct")


def ends(
    host: Host,
    argv: list[str],
    expected: Exit,
    *,
    says: str = "",
    input: str | None = None,
    timeout: float = 30,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end: the code, the sentence on stderr, and never a traceback."""
    done = host.run(argv, check=False, input=input, timeout=timeout)
    assert (done.returncode, done.stdout) == (expected, done.stdout), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected error" not in done.stderr
    return done


def one_sentence(done: subprocess.CompletedProcess[str]) -> None:
    """Nothing on stdout; on stderr what and why after the program's name, and at most a hint below it."""
    assert done.stdout == ""
    first, *hint = done.stderr.splitlines()
    assert re.match(r"coder(d|ctl): \S", first)
    assert len(hint) <= 1
    assert all(line.startswith("  ") for line in hint)


# ---- 0


def test_0_what_was_asked_for_is_done(lab: Lab) -> None:
    for argv in (["status"], ["ping", "dev", "-c", "1"], ["ping", "dev", "--until-direct"], ["--help"]):
        ends(lab.user.host, ["coderctl", *argv], Exit.DONE)


def test_0_for_a_daemon_and_a_server_that_are_told_to_stop() -> None:
    with Lab("no-nat") as lab:
        lab.join()
        assert lab.user.daemon is not None
        assert lab.server.daemon is not None
        assert lab.user.daemon.stop() == Exit.DONE
        assert lab.server.daemon.stop() == Exit.DONE


# ---- 1


def test_1_failed_where_nothing_listens_or_nobody_has_joined(lab: Lab) -> None:
    one_sentence(ends(lab.user.host, ["coderctl", "nc", "dev", "9"], Exit.FAILED, says="nothing listens"))
    one_sentence(ends(lab.dev.host, ["coderctl", "up"], Exit.FAILED, says="token it was started with"))


# ---- 2


@pytest.mark.parametrize(
    "argv",
    [
        ["coderctl", "--no-such-option"],
        ["coderctl", "dance"],
        ["coderctl", "ping"],
        ["coderctl", "ping", "dev", "-c", "many"],
        ["coderctl", "ping", "dev", "-t", "0s"],
        ["coderctl", "speedtest", "dev", "--direct", "--relay"],
        ["coderctl", "speedtest", "dev", "-t", "1h"],
        ["coderctl", "nc", "dev", "65536"],
        ["coderctl", "port-forward", "dev", "eighty"],
        ["coderctl", "up", "not a url"],
        ["coderctl", "up", "https://192.0.2.10:3000", "--token-file", "/nonexistent"],
        ["coderd", "run", "--mtu", "12"],
        ["coderd", "run", "--interface", "much-too-long-a-name"],
        ["coderd", "run", "--access-url", "https://192.0.2.10:3000"],
        ["coderd", "server"],
        ["coderd", "server", "--access-url", "ftp://192.0.2.10"],
    ],
    ids=" ".join,
)
def test_2_wrong_usage(lab: Lab, argv: list[str]) -> None:
    one_sentence(ends(lab.user.host, argv, Exit.USAGE))


@pytest.mark.parametrize("argv", [["coderctl", "status"], ["coderd", "run"]], ids=" ".join)
def test_2_on_a_kernel_that_is_too_old(lab: Lab, argv: list[str]) -> None:
    one_sentence(ends(lab.user.host, [*OLD_KERNEL, *argv], Exit.USAGE, says="Linux 5.10 or newer"))


# ---- 3


def test_3_without_a_daemon(lab: Lab) -> None:
    for argv in (["status"], ["ping", "dev"], ["nc", "dev", "22"], ["speedtest", "dev"], ["down"]):
        socket = ["--socket", "/run/nothing.sock"]
        done = ends(lab.user.host, ["coderctl", *argv, *socket], Exit.UNREACHABLE, says="not running")
        one_sentence(done)


def test_3_without_a_server(lab: Lab) -> None:
    url = ["--url", "https://192.0.2.10:4000", "--token-file", "-"]
    argv = ["coderctl", "workspaces", "list", *url]
    one_sentence(ends(lab.user.host, argv, Exit.UNREACHABLE, input="cdrs_x\n"))


def test_3_when_signing_in_at_a_server_that_is_not_there(lab: Lab) -> None:
    bob = lab.add_host("bob")
    argv = ["coderctl", "up", "http://192.0.2.10:4000", "--insecure", "--token-file", "-"]
    with running_node(bob):
        done = ends(bob, argv, Exit.UNREACHABLE, input="cdrs_x\n")
    assert done.stdout == ""


# ---- 4


def running_node(host: Host) -> Process:
    """A daemon of a user on one more machine, ready."""
    node = host.start(["coderd", "run", "--interface", "coder-more"], name=f"coderd run on {host.name}")
    node.wait_for("ready")
    return node


def test_4_signing_in_with_a_wrong_token(lab: Lab) -> None:
    carol = lab.add_host("carol")
    with running_node(carol):
        for token in ("cdrs_wrong", "", "two words"):
            argv = ["coderctl", "up", lab.server.url, "--insecure", "--token-file", "-"]
            ends(carol, argv, Exit.REFUSED, says="token", input=token + "\n")
        ends(carol, ["coderctl", "ping", "dev"], Exit.REFUSED, says="not signed in")


def test_4_asking_the_server_with_a_wrong_token(lab: Lab) -> None:
    argv = ["coderctl", "workspaces", "list", "--url", lab.server.url, "--insecure", "--token-file", "-"]
    one_sentence(ends(lab.user.host, argv, Exit.REFUSED, says="token", input="cdrs_wrong\n"))


@pytest.mark.parametrize(
    "argv",
    [
        ["coderctl", "up", "http://192.0.2.10:3001", "--token-file", "-"],
        ["coderctl", "workspaces", "list", "--url", "http://192.0.2.10:3001", "--token-file", "-"],
        ["coderd", "run", "--access-url", "http://192.0.2.10:3001", "--token-file", "-"],
    ],
    ids=" ".join,
)
def test_4_a_token_that_everybody_on_the_way_could_read(lab: Lab, argv: list[str]) -> None:
    host = lab.dev.host
    with lab.capture(host, "dst port 3001") as sent:
        one_sentence(ends(host, argv, Exit.REFUSED, says="--insecure", input="cdrs_secret\n"))
    assert not sent.packets()


def test_4_a_workspace_whose_token_is_revoked_while_it_runs_and_when_it_comes_again(lab: Lab) -> None:
    host = lab.add_host("gone")
    host.path("/run/token").write_text(lab.server.create_workspace("gone") + "\n", encoding="ascii")
    argv = ["coderd", "run", "--access-url", lab.server.url, "--insecure", "--token-file", "/run/token"]
    node = host.start(argv, name="coderd run on gone")
    node.wait_for("server_joined")
    lab.server.coderctl("workspaces", "delete", "gone", "--yes")
    assert node.wait() == Exit.REFUSED
    assert "coderd: " in node.output
    assert "Traceback" not in node.output
    ends(host, argv, Exit.REFUSED, says="coderd: ")


def test_4_a_caller_who_may_not_use_the_control_socket(lab: Lab) -> None:
    for argv in (["status"], ["ping", "dev"], ["speedtest", "dev"], ["nc", "dev", "22"], ["down"]):
        stranger = [*as_user(NOBODY), "coderctl", *argv]
        one_sentence(ends(lab.user.host, stranger, Exit.REFUSED, says="not allowed"))


# ---- 5


@pytest.mark.parametrize(
    "argv", [["ping"], ["speedtest"], ["nc", "22"], ["port-forward", "8080"]], ids=" ".join
)
def test_5_no_such_workspace(lab: Lab, argv: list[str]) -> None:
    command, *rest = argv
    done = ends(
        lab.user.host, ["coderctl", command, "nonsense", *rest], Exit.NO_SUCH_WORKSPACE, says="nonsense"
    )
    one_sentence(done)


def test_5_deleting_a_workspace_that_is_not_there(lab: Lab) -> None:
    argv = ["coderctl", "workspaces", "delete", "nonsense", "--yes", "--token-file", "-"]
    ends(lab.user.host, argv, Exit.NO_SUCH_WORKSPACE, input=lab.server.admin_token + "\n")


# ---- 6, 11


def test_6_and_11_a_workspace_that_has_fallen_silent() -> None:
    with Lab("no-nat") as lab:
        lab.join()
        assert lab.dev.daemon is not None
        lab.dev.daemon.signal(signal.SIGSTOP)
        user = lab.user.host
        ends(user, ["coderctl", "ping", "dev", "-c", "1", "-t", "100ms"], Exit.TIMED_OUT, says="none of 1")
        until_direct = ["coderctl", "ping", "dev", "-c", "1", "-t", "100ms", "--until-direct"]
        ends(user, until_direct, Exit.NO_PATH, says="none of 1")
        one_sentence(ends(user, ["coderctl", "speedtest", "dev"], Exit.NO_PATH))


@pytest.mark.parametrize(
    "argv", [["ping"], ["speedtest"], ["nc", "22"], ["port-forward", "8080"]], ids=" ".join
)
def test_11_a_workspace_that_was_never_online(lab: Lab, argv: list[str]) -> None:
    names = [
        workspace["name"] for workspace in json.loads(lab.server.coderctl("workspaces", "list", "--json"))
    ]
    if "idle" not in names:
        lab.server.create_workspace("idle")
    command, *rest = argv
    one_sentence(ends(lab.user.host, ["coderctl", command, "idle", *rest], Exit.NO_PATH, says="offline"))


def test_11_a_workspace_that_has_left() -> None:
    with Lab("no-nat") as lab:
        lab.join()
        assert lab.dev.daemon is not None
        lab.dev.daemon.stop()
        for argv in (["ping", "dev"], ["speedtest", "dev"], ["nc", "dev", "22"]):
            one_sentence(ends(lab.user.host, ["coderctl", *argv], Exit.NO_PATH, says="offline"))


def test_11_after_down_there_is_no_path_to_anybody() -> None:
    with Lab("no-nat") as lab:
        lab.join()
        lab.user.coderctl("down")
        one_sentence(ends(lab.user.host, ["coderctl", "ping", "dev"], Exit.NO_PATH, says="left its network"))
        ends(lab.user.host, ["coderctl", "status"], Exit.FAILED)
        ends(lab.user.host, ["coderctl", "status", "--json"], Exit.DONE)


# ---- 10


def test_10_a_ping_that_was_to_go_directly_and_was_relayed(relayed: Lab) -> None:
    argv = ["coderctl", "ping", "dev", "-c", "2", "-i", "100ms", "--until-direct"]
    done = ends(relayed.user.host, argv, Exit.ONLY_RELAYED, says="none directly")
    assert done.stdout.count('via relay "coder"') == 2


def test_10_a_speed_test_that_was_to_go_directly_and_could_not(patient_speed_test: Process) -> None:
    assert patient_speed_test.wait(timeout=45) == Exit.ONLY_RELAYED
    assert "Waiting for a direct connection" in patient_speed_test.output
    assert "no direct path to admin/dev" in patient_speed_test.output
    assert "Traceback" not in patient_speed_test.output


# ---- 130


@pytest.mark.parametrize(
    ("argv", "sign"),
    [
        (["ping", "dev", "-c", "0"], "pong from dev"),
        (["speedtest", "dev", "-t", "30s"], "Starting a 30s"),
        (["port-forward", "dev", "8080:22"], "Ready!"),
        (["status", "--watch"], "dev"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_130_interrupted(lab: Lab, argv: list[str], sign: str) -> None:
    running = lab.user.host.start([*INTERRUPTIBLE, "coderctl", *argv], name=argv[0])
    running.wait_for(sign)
    running.signal(signal.SIGINT)
    assert running.wait(timeout=5) == Exit.INTERRUPTED
    assert "Traceback" not in running.output
    assert "unexpected error" not in running.output


def test_130_a_speed_test_that_is_interrupted_leaves_the_workspace_free_for_the_next(lab: Lab) -> None:
    running = lab.user.host.start(
        [*INTERRUPTIBLE, "coderctl", "speedtest", "dev", "-t", "30s"], name="speedtest"
    )
    running.wait_for("Starting a 30s")
    running.signal(signal.SIGINT)
    assert running.wait(timeout=5) == Exit.INTERRUPTED
    ends(lab.user.host, ["coderctl", "speedtest", "dev", "-t", "1s"], Exit.DONE)


# ---- the document, and the laboratory itself


def test_the_document_has_a_row_for_every_code_and_no_other() -> None:
    text = (PROJECT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert codes == sorted(Exit)


def test_125_the_laboratory_itself_failed() -> None:
    argv = [str(PROJECT / "scripts" / "lab"), "run", "no-nat", "--server-arg=--no-such-option", "--", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == Exit.LAB_FAILED
    assert "Traceback" not in done.stderr
