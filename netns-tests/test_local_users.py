"""``--local-users`` with real users and rules, in a network namespace of its own."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

ALLOWED, OTHER, LAST = 12345, 12346, 2**32 - 2

PREAMBLE = """
import errno, json, os, socket, subprocess, sys, trio
from coderd.model.errors import UserError
from coderd.tun.io.local_users import only_users

for command in (
    "link set lo up",
    "link add coder0 type veth peer name peer0",
    "link set peer0 up",
    "link set coder0 up",
    "-6 addr add fd60:627a:a42b::1/128 dev coder0 nodad",
    "-6 route add fd60:627a:a42b::2/128 dev coder0",
    "-6 route add 2001:db8::/32 dev coder0",
):
    subprocess.run(["ip", *command.split()], check=True)

def sends(uid, address="fd60:627a:a42b::2", device=None):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            if device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            sock.sendto(b"x", (address, 9))
        code = 0
    except OSError as error:
        code = error.errno
    os._exit(code)

def rules():
    found = subprocess.run(["ip", "-6", "rule"], check=True, capture_output=True, text=True).stdout
    return found.count("prohibit")
"""


def run(script: str) -> dict[str, object]:
    """What a script prints as JSON, which runs as root in a namespace that ends with it."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", PREAMBLE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def test_only_who_is_named_and_root_send_into_the_tunnel_and_everybody_again_at_the_end() -> None:
    found = run(f"""
        async def main():
            before = sends({OTHER})
            async with only_users("coder0", frozenset({{{ALLOWED}}})):
                told = dict(
                    root=sends(0), allowed=sends({ALLOWED}), other=sends({OTHER}), below=sends(1), last=sends({LAST}),
                    bound=sends({OTHER}, device=b"coder0"), elsewhere=sends({OTHER}, "2001:db8::1"),
                    itself=sends({OTHER}, "fd60:627a:a42b::1"), rules=rules(),
                )
            told |= dict(before=before, after=sends({OTHER}), rules_after=rules())
            print(json.dumps(told))
        trio.run(main)
    """)
    refused = 13
    assert found == {
        "before": 0,
        "root": 0,
        "allowed": 0,
        "other": refused,
        "below": refused,
        "last": refused,
        "bound": refused,
        "elsewhere": 0,
        "itself": 0,
        "rules": 2,
        "after": 0,
        "rules_after": 0,
    }


def test_what_a_killed_daemon_has_left_is_taken_away_by_the_next_and_anothers_is_not() -> None:
    found = run(f"""
        async def hold(interface):
            async with only_users(interface, frozenset({{{ALLOWED}}})):
                os._exit(0)  # as SIGKILL does

        for interface in ("coder0", "coder1"):
            if not (child := os.fork()):
                trio.run(hold, interface)
            os.waitpid(child, 0)
        left = rules()
        async def later():
            async with only_users("coder0", None):
                print(json.dumps(dict(left=left, anothers=rules())))
        trio.run(later)
    """)
    assert found == {"left": 4, "anothers": 2}


def test_where_it_cannot_be_set_the_daemon_does_not_start_and_says_why() -> None:
    found = run(f"""
        async def main():
            os.setresuid({OTHER}, {OTHER}, {OTHER})
            try:
                async with only_users("coder0", frozenset({{{ALLOWED}}})):
                    print(json.dumps(dict(code="it did")))
            except UserError as error:
                print(json.dumps(dict(code=error.code, message=error.message, hint=error.hint, rules=rules())))
        trio.run(main)
    """)
    assert found["code"] == "no_local_users"
    assert "CAP_NET_ADMIN" in str(found["message"])
    assert found["rules"] == 0


def test_a_daemon_sets_the_rules_before_it_is_ready_and_takes_them_away_when_it_ends(tmp_path: Path) -> None:
    """On a machine whose interface the daemon makes itself."""
    found = run(f"""
        import signal
        subprocess.run(["ip", "link", "del", "coder0"], check=True)
        where = ["--state-dir", "{tmp_path}/state", "--socket", "{tmp_path}/socket", "--interface", "coder0"]
        argv = [sys.executable, "-m", "coderd.cli.coderd", "run", *where, "--local-users", "{ALLOWED}"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as daemon:
            seen = ""
            while "ready" not in seen:
                line = daemon.stderr.readline()
                assert line, seen
                seen += line
            while_running = rules()
            daemon.send_signal(signal.SIGTERM)
            daemon.stderr.read()
        print(json.dumps(dict(while_running=while_running, after=rules(), code=daemon.returncode)))
    """)
    assert found == {"while_running": 2, "after": 0, "code": 0}
