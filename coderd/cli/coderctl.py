"""``coderctl``: asks the daemon, and the server. Says which commands there are; each is a module of its own."""

import typer

from coderd.cli import (
    apps,
    connections,
    debug,
    devices,
    shares,
    tokens,
    users,
    workspace_policy,
    workspaces,
)
from coderd.cli.audit import audit
from coderd.cli.derp_map import derp_map
from coderd.cli.forward import port_forward
from coderd.cli.health import health
from coderd.cli.join import down, logout, up
from coderd.cli.metrics import metrics
from coderd.cli.nc import nc
from coderd.cli.netcheck import netcheck
from coderd.cli.paths import paths
from coderd.cli.ping import ping
from coderd.cli.shell import run
from coderd.cli.speedtest import speedtest
from coderd.cli.status import status
from coderd.cli.terminal import terminal
from coderd.cli.typer_app import add, new_app
from coderd.cli.why import why

HELP = """Join your workspaces over an encrypted tunnel, directly where any path can be opened.

Start with:
  sudo coderctl up https://SERVER:3000
  coderctl status
  coderctl ping WORKSPACE
"""


def build_app() -> typer.Typer:
    """The whole of ``coderctl``."""
    app = new_app(HELP)
    add(app, "up", up, "Sign in, enrol this machine, join the network.")
    add(app, "down", down, "Leave the network.")
    add(app, "logout", logout, "Leave, and forget this machine's keys and tokens.")
    add(app, "status", status, "This machine, its server, and every peer's path.")
    add(app, "ping", ping, "Ping a workspace, and show by which path.")
    add(app, "why", why, "Why a workspace is reached as it is, and the cure.")
    add(app, "netcheck", netcheck, "Measure the network: UDP, NAT, relays.")
    add(app, "derp-map", derp_map, "The relays, and whether each of them works.")
    add(app, "speedtest", speedtest, "Measure the throughput to a workspace.")
    add(app, "metrics", metrics, "Counters and paths, as Prometheus reads them.")
    add(app, "port-forward", port_forward, "Forward local TCP ports to a workspace.")
    add(app, "nc", nc, "A workspace's TCP port on stdin and stdout.")
    add(app, "terminal", terminal, "A shell in a workspace, resumed where the path breaks.")
    add(app, "share", shares.share, "Offer a workspace to another user.")
    app.add_typer(_shares(), name="shares")
    app.add_typer(_workspaces(), name="workspaces")
    app.add_typer(_apps(), name="apps")
    app.add_typer(_devices(), name="devices")
    app.add_typer(_users(), name="users")
    app.add_typer(_tokens(), name="tokens")
    add(app, "paths", paths, "Who reaches whom at the server, and by which path.")
    add(app, "health", health, "What is wrong with the server, and the cure.")
    add(app, "audit", audit, "Who changed what at the server.")
    app.add_typer(_debug(), name="debug", hidden=True)
    return app


def _workspaces() -> typer.Typer:
    group = new_app("Workspaces at the server: who has them, who may meet them, and how.")
    add(group, "create", workspaces.create, "Make one, and print the line that joins it.")
    add(group, "list", workspaces.list_workspaces, "List yours, and those shared with you.")
    add(group, "show", workspace_policy.show, "Show one.")
    add(group, "rename", workspace_policy.rename, "Give one another name.")
    add(group, "share", shares.share_positional, "Offer one to another user.")
    add(group, "unshare", workspace_policy.unshare, "Take that back.")
    add(group, "connections", connections.connections, "Who is connected to one, and since when.")
    add(group, "cut", connections.cut, "Cut a guest off from one.")
    add(group, "set", workspace_policy.set_policy, "By which paths one may be reached.")
    add(group, "delete", workspaces.delete, "Delete one.")
    return group


def _shares() -> typer.Typer:
    group = new_app("Workspaces that others share with you, or offer.")
    add(group, "list", shares.list_shares, "List them.")
    add(group, "accept", shares.accept, "Accept an offer.")
    add(group, "decline", shares.decline, "Decline an offer, silently.")
    add(group, "leave", shares.leave, "Leave a workspace that is shared with you.")
    return group


def _apps() -> typer.Typer:
    group = new_app("Web apps: ports of workspaces, opened by browser through the server.")
    add(group, "list", apps.list_apps, "List what was set of a workspace.")
    add(group, "set", apps.set_app, "Say who may open a port, and give it a name.")
    add(group, "delete", apps.delete, "Forget one: its port is yours alone again.")
    return group


def _devices() -> typer.Typer:
    group = new_app("Your machines at the server.")
    add(group, "list", devices.list_devices, "List yours.")
    add(group, "show", devices.show, "Show one.")
    add(group, "rename", devices.rename, "Give one another name.")
    add(group, "approve", devices.approve, "Let one in that waits for approval.")
    add(group, "delete", devices.delete, "Delete one, and end its tunnels.")
    return group


def _users() -> typer.Typer:
    group = new_app("Who may sign in, and as what. For admins and owners.")
    add(group, "create", users.create, "Create one, and print the token to sign in with.")
    add(group, "list", users.list_users, "List all.")
    add(group, "show", users.show, "Show yourself or one: how much they have.")
    add(group, "rename", users.rename, "Give one another name.")
    add(group, "set-role", users.set_role, "Make one an owner, an admin or a member.")
    add(group, "sessions", users.sessions, "List one's sessions and other tokens.")
    add(group, "revoke-session", users.revoke_session, "Revoke one of them.")
    add(group, "sign-in", users.sign_in, "Give one a new token to sign in with.")
    add(group, "delete", users.delete, "Delete one with all that is theirs.")
    return group


def _tokens() -> typer.Typer:
    group = new_app("Session tokens and join keys.")
    add(group, "create", tokens.create, "Create one, and print it this once.")
    add(group, "list", tokens.list_tokens, "List yours, never in clear.")
    add(group, "revoke", tokens.revoke, "Revoke one.")
    return group


def _debug() -> typer.Typer:
    group = new_app("Cause faults, and see the server's counters.")
    add(group, "rebind", debug.rebind, "Forget all trust in paths.")
    add(group, "netcheck", debug.netcheck, "Measure the network anew.")
    add(group, "break-relay", debug.break_relay, "Break the links to all relays.")
    add(group, "break-server", debug.break_server, "Break the link to the server.")
    add(group, "counters", debug.counters, "What the server has moved and refused.")
    return group


def main() -> None:
    """The entry point."""
    run(build_app(), "coderctl")


if __name__ == "__main__":
    main()
