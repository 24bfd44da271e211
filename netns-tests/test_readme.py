"""The README's very lines, as a newcomer types them: a server, a user's machine, a workspace.

::

    user ──[easy NAT]── core ──[easy NAT]── dev
                          │
              server 192.0.2.10, as in the README

What says ``sudo`` is run by root, everything else by alice, an ordinary user. What must be copied from
machine to machine by hand (the admin's token, the workspace's, the server's pin) is copied by the test, under
the names that the README uses.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from lab import Host, Lab, Process, until
from people import as_user

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sh (server|user|workspace)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ALICE = 12345
"""Her user and group number."""
HOME = "/run/alice"
LONG_RUNNING = ("coderd server", "coderd run")

ROW = r"\d+\.\d\d-\d+\.\d\d sec +\d+\.\d{4} MBits +\d+\.\d{4} Mbits/sec *"


class Line(NamedTuple):
    """One line of a labelled block."""

    where: str
    """``server``, ``user`` or ``workspace``."""
    command: str
    is_sudo: bool


def lines() -> list[Line]:
    """Every line of the labelled blocks, in order."""
    return [
        Line(where, line.removeprefix("sudo "), line.startswith("sudo "))
        for where, block in BLOCK.findall(README)
        for line in block.splitlines()
    ]


class Reader:
    """Somebody who does what the README says."""

    def __init__(self, lab: Lab) -> None:
        self.hosts = {"server": lab.server.host, "user": lab.user.host, "workspace": lab.dev.host}
        self.said: dict[str, str] = {}
        """What each command that ended wrote, on both of its streams."""
        self.pin = ""
        for host in self.hosts.values():
            host.environment.clear()
            make_alice(host)

    def argv(self, command: str, *, is_sudo: bool = False) -> list[str]:
        """A line of a shell in alice's home, run by root or by herself.

        Her shell reads it with sudo, too.
        """
        who = [] if is_sudo else as_user(ALICE)
        environment = ["env", f"--chdir={HOME}", "USER=alice", f"HOME={HOME}", f"PIN={self.pin}"]
        return [*who, *environment, "sh", "-c", command]

    def follow(self) -> None:
        """All lines, one after the other."""
        for line in lines():
            if line.command.startswith(LONG_RUNNING):
                self.start(line)
            else:
                self.run(line)

    def start(self, line: Line) -> None:
        """A daemon: it runs on, and the next line is typed once it is ready."""
        argv = self.argv(f"exec {line.command}", is_sudo=line.is_sudo)
        daemon = self.hosts[line.where].start(argv, name=line.command)
        daemon.wait_for("administrator" if line.where == "server" else "ready")
        if line.where == "server":
            self.fetch_admin_token(daemon)
            self.read_pin(daemon)
        if line.where == "workspace":
            until(self.sees_dev, "the user to see dev online")

    def sees_dev(self) -> bool:
        """Whether what somebody would see who typed ``coderctl status`` now has dev online."""
        peers = json.loads(self.hosts["user"].run(["coderctl", "status", "--json"]).stdout)["peers"]
        return any(peer["online"] for peer in peers)

    def run(self, line: Line) -> None:
        """A command that ends, and must end well."""
        host = self.hosts[line.where]
        done = host.run(self.argv(line.command, is_sudo=line.is_sudo), timeout=60)
        self.said[line.command] = done.stdout + done.stderr
        if "workspaces create" in line.command:
            self.give_token(done.stdout)

    def fetch_admin_token(self, server: Process) -> None:
        """Copy the token's file to the user's machine, from where the server says that it is."""
        found = re.search(r"token is in (\S+admin-token)", server.output)
        assert found is not None, server.output
        token = self.hosts["server"].path(found[1]).read_text(encoding="ascii")
        write(self.hosts["user"], "admin-token", token)

    def read_pin(self, server: Process) -> None:
        """What the server prints of its certificate."""
        found = re.search(r"--pin (sha256:[0-9a-f]{64})", server.output)
        assert found is not None, server.output
        self.pin = found[1]

    def give_token(self, printed: str) -> None:
        """Copy the workspace's token, out of the line that joins it, to the workspace."""
        found = re.search(r"\bcdrw_[\w-]+", printed)
        assert found is not None, printed
        write(self.hosts["workspace"], "token", found[0] + "\n")


def make_alice(host: Host) -> None:
    """An ordinary user with a home, on a machine whose /etc is its own."""
    with host.path("/etc/passwd").open("a", encoding="ascii") as passwd:
        passwd.write(f"alice:x:{ALICE}:{ALICE}::{HOME}:/bin/sh\n")
    host.path(HOME).mkdir(mode=0o700)
    os.chown(host.path(HOME), ALICE, ALICE)


def write(host: Host, name: str, token: str) -> None:
    """A file in alice's home that is hers alone."""
    file = host.path(f"{HOME}/{name}")
    file.touch(mode=0o600)
    file.write_text(token, encoding="ascii")
    os.chown(file, ALICE, ALICE)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Lab("easy-nat") as lab:
        reader = Reader(lab)
        reader.follow()
        yield reader


def test_the_lines_are_those_of_three_machines_and_only_daemons_need_root() -> None:
    assert {line.where for line in lines()} == {"server", "user", "workspace"}
    assert all(line.command.startswith(("coderd ", "coderctl ")) for line in lines())
    assert all(line.is_sudo == line.command.startswith(LONG_RUNNING) for line in lines())


def test_every_line_does_what_it_is_there_for(reader: Reader) -> None:
    assert (
        "Joined https://192.0.2.10:3000 as admin/user"
        in reader.said['coderctl up https://192.0.2.10:3000 --pin "$PIN" < admin-token']
    )
    assert re.search(r"^admin/dev +fd60:627a:a42b:", reader.said["coderctl status"], re.MULTILINE)
    said = reader.said["coderctl ping dev --until-direct"].splitlines()
    pongs = [line for line in said if not re.fullmatch(r"direct after \d+\.\d\d s", line)]
    assert re.fullmatch(r"pong from dev via 203\.0\.113\.2:\d+ in \S+", pongs[-1])


def test_the_speed_test_prints_what_the_readme_shows(reader: Reader) -> None:
    latency, start, header, *rows, rule, total = reader.said["coderctl speedtest dev"].splitlines()
    assert re.fullmatch(r"(<1|\d+)ms via direct \(203\.0\.113\.2:\d+\)", latency)
    assert start == "Starting a 5s download test..."
    assert re.fullmatch(r"INTERVAL +TRANSFER +BANDWIDTH *", header)
    assert len(rows) >= 5
    assert all(re.fullmatch(ROW, row) for row in [*rows, total])
    assert rule == "-" * len(total)
    shown = README.partition("$ coderctl speedtest dev\n")[2].partition("```")[0].splitlines()
    assert re.fullmatch(r"(<1|\d+)ms via direct \(\S+\)", shown[0])
    assert shown[1:3] == [start, "INTERVAL       TRANSFER         BANDWIDTH"]
    assert re.fullmatch(ROW, shown[3])


def test_a_forwarded_port_is_reached_as_shown(reader: Reader) -> None:
    assert "`coderctl port-forward dev 8080:80`" in README
    dev, user = reader.hosts["workspace"], reader.hosts["user"]
    serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", HOME, "80"]
    with (
        dev.start(serve, name="web server") as web,
        user.start(reader.argv("exec coderctl port-forward dev 8080:80"), name="port-forward") as forwarding,
    ):
        web.wait_for("Serving")
        forwarding.wait_for("Ready!")
        page = user.python(
            "import urllib.request as r; print(r.urlopen('http://localhost:8080/token').read())"
        )
    assert "cdrw_" in page


def test_down_leaves_and_logout_forgets(reader: Reader) -> None:
    user = reader.hosts["user"]
    assert (
        "`coderctl down` leaves the network, `coderctl logout` also deletes this machine's keys and tokens"
        in README
    )
    assert user.run(reader.argv("coderctl down")).stdout == "Left the network\n"
    assert user.run(reader.argv("coderctl logout")).stdout == "Signed out\n"
