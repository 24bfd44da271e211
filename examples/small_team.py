"""A small team: ann shares one port of her workspace with bob, who uses it until she revokes the share.

The server, ann's workspace behind one NAT and bob's laptop behind another are network namespaces of
this machine; what is printed is what ann and bob see. Change the script to try a team of your own.

Run it as root from the project's directory, after ``sudo scripts/install --lab``::

    sudo .venv/bin/python examples/small_team.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "netns-tests"))

from lab import Host, Lab, until

WEBSITE = ["python3", "-m", "http.server", "--bind", "127.0.0.1"]
"""A program on the workspace's loopback, which nothing but its own machine could reach without coderd."""


def say(who: str, command: str, output: str) -> None:
    """Prints a command and its output, as on a person's terminal."""
    print(f"{who}$ {command}", *output.splitlines(), "", sep="\n", flush=True)


def fetches(laptop: Host) -> str:
    """Returns the status that bob's ``curl`` prints of the forwarded port; 000 while there is none."""
    return laptop.run(
        [
            "curl",
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "http://127.0.0.1:9000/",
        ],
        check=False,
    ).stdout


def main() -> None:
    """Builds the team, shares, uses the share, and revokes it."""
    with Lab("easy-nat") as lab:
        lab.join_dev()  # the server, whose first administrator is ann, and her workspace dev
        for port in ("8000", "8001"):
            lab.dev.host.start([*WEBSITE, port], name=f"website {port}").wait_for("Serving HTTP")

        def ann(command: str) -> str:
            output = lab.server.coderctl(*command.split())
            say("ann", f"coderctl {command}", output)
            return output

        def bob(command: str) -> str:
            output = lab.user.coderctl(*command.split())
            say("bob", f"coderctl {command}", output)
            return output

        token = lab.server.coderctl("users", "create", "bob").strip()
        lab.user.host.environment["CODER_URL"] = lab.server.url
        lab.user.join_as_user(lab.server.join_url, token)

        ann("share dev --with bob --ports 8000")
        bob("shares accept admin/dev")
        lab.user.wait_for_peer("admin/dev")
        bob("ping admin/dev -c 2")
        lab.user.host.start(
            ["coderctl", "port-forward", "admin/dev", "9000:8000"], name="bob's port-forward"
        ).wait_for("9000")
        until(lambda: fetches(lab.user.host) == "200", "bob to reach the website")
        say("bob", "curl http://127.0.0.1:9000/", "HTTP 200: port 8000 of dev, through the tunnel")
        refused = lab.user.host.run(["coderctl", "nc", "admin/dev", "8001"], check=False)
        say("bob", "coderctl nc admin/dev 8001", refused.stderr)

        ann("workspaces cut dev bob")
        until(lambda: fetches(lab.user.host) != "200", "the share's connections to end")
        until(lambda: lab.user.peer("admin/dev") is None, "dev to be gone from bob's network")
        bob("status")
        print("The share was used, and revoked.")


if __name__ == "__main__":
    main()
