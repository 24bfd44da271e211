"""Joining takes three commands in all: two are pasted as they were printed, one is typed.

No token is in any argument.

::

    user ──[easy NAT]── core ──[easy NAT]── dev          each with its daemon's unit, server included
                          │
                        server
"""

import json
from pathlib import Path

import pytest
from lab import Host, Lab, until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

TOKEN_FILE = "/var/lib/coderd-server/admin-token"
SSH = """#!/bin/sh
# Stands in for ssh to the server: "ssh root@HOST cat FILE".
shift
exec "$@"
"""


class Shells:
    """What people typed or pasted, and where."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def file(self, host: Host, line: str) -> list[str]:
        """A shell that reads this line, which is thus in no process's arguments.

        Sudo is for those who are not root.
        """
        self.commands.append(line)
        script = host.path("/run/line.sh")
        script.write_text(line.replace("sudo ", "") + "\n", encoding="utf-8")
        return ["sh", "/run/line.sh"]


def arguments_of_all() -> bytes:
    """Every process's arguments."""
    found = b""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += file.read_bytes()
        except OSError:
            continue
    return found


def test_joining_takes_three_commands_and_no_token_shows_in_arguments() -> None:
    with Lab("easy-nat") as lab:
        server, user, dev, shells = lab.server.host, lab.user.host, lab.dev.host, Shells()
        daemon = server.start(["coderd", "server", "--access-url", f"https://{lab.server.address}:3000"])
        daemon.wait_for("coderctl up")
        user.start(["coderd", "run"]).wait_for("ready")
        make_ssh(server, user)

        first = next(line.strip() for line in daemon.output.splitlines() if "coderctl up" in line)
        user.run(shells.file(user, first))
        second = "coderctl workspaces create dev"
        (third,) = user.run(shells.file(user, second)).stdout.splitlines()
        dev.start(shells.file(dev, third), name="the workspace").wait_for("ready")

        def sees_dev() -> bool:
            peers = json.loads(user.run(["coderctl", "status", "--json"]).stdout)["peers"]
            return any(peer["name"] == "admin/dev" and peer["online"] for peer in peers)

        until(sees_dev, "the user to see dev online")
        assert shells.commands == [first, second, third]
        secrets = [server.path(TOKEN_FILE).read_text("ascii").strip(), third.split()[1]]
        assert all(secret.startswith("cdr") for secret in secrets)
        assert not any(secret.encode() in arguments_of_all() for secret in secrets)


def make_ssh(server: Host, user: Host) -> None:
    """What ``ssh`` would do: here the server's file is on the user's machine, too."""
    program, copy = user.path("/run/bin/ssh"), user.path(TOKEN_FILE)
    for file, text in ((program, SSH), (copy, server.path(TOKEN_FILE).read_text("ascii"))):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")
    program.chmod(0o755)
    user.environment["PATH"] = f"/run/bin:{user.environ()['PATH']}"
