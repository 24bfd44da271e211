"""``coderctl``: its commands, which ask the daemon or the server. Each is in a module of its own."""

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
from coderd.cli.typer_app import add, add_completion, new_app, program
from coderd.cli.version import version
from coderd.cli.why import why

HELP = """Join your workspaces over an encrypted tunnel, directly wherever a path can be opened.

Start with:
  sudo coderctl up https://SERVER:3000
  coderctl status
  coderctl ping WORKSPACE
"""


def build_app() -> typer.Typer:
    """Returns ``coderctl`` with all its commands."""
    app = program(HELP)
    add(app, "up", up, "Sign in, enrol this machine, join the network.")
    add(app, "down", down, "Leave the network.")
    add(app, "logout", logout, "Leave, and forget this machine's keys and tokens.")
    add(app, "status", status, "Show this machine, its server and its peers.")
    add(app, "ping", ping, "Ping a workspace, and show the path.")
    add(app, "why", why, "Explain why a path is not direct, with the fix.")
    add(app, "netcheck", netcheck, "Measure the network: UDP, NAT, relays.")
    add(app, "derp-map", derp_map, "Show the relays, and check them.")
    add(app, "speedtest", speedtest, "Measure the throughput to a workspace.")
    add(app, "metrics", metrics, "Counters and paths in Prometheus's format.")
    add(app, "port-forward", port_forward, "Forward local TCP ports to a workspace.")
    add(app, "nc", nc, "Connect stdin and stdout to a TCP port.")
    add(app, "terminal", terminal, "Open a shell in a workspace.")
    add(app, "share", shares.share, "Share a workspace with another user.")
    app.add_typer(_shares(), name="shares")
    app.add_typer(_workspaces(), name="workspaces")
    app.add_typer(_apps(), name="apps")
    app.add_typer(_devices(), name="devices")
    app.add_typer(_users(), name="users")
    app.add_typer(_tokens(), name="tokens")
    add(app, "paths", paths, "Show the paths between nodes at the server.")
    add(app, "health", health, "Show problems with the server, with the fix.")
    add(app, "audit", audit, "Show who changed what at the server.")
    add(app, "version", version, "Show the versions here and at the server.")
    add_completion(app)
    app.add_typer(_debug(), name="debug", hidden=True)
    return app


def _workspaces() -> typer.Typer:
    group = new_app("Your workspaces, and who may reach them.")
    add(group, "create", workspaces.create, "Create one, and print the command that joins it.")
    add(group, "list", workspaces.list_workspaces, "List yours and those shared with you.")
    add(group, "show", workspace_policy.show, "Show one.")
    add(group, "rename", workspace_policy.rename, "Rename one.")
    add(group, "share", shares.share_positional, "Share one with another user.")
    add(group, "unshare", workspace_policy.unshare, "Stop sharing one with a user.")
    add(group, "connections", connections.connections, "Show who is connected to one.")
    add(group, "cut", connections.cut, "Disconnect a user from one.")
    add(group, "set", workspace_policy.set_policy, "Set by which paths one may be reached.")
    add(group, "delete", workspaces.delete, "Delete one.")
    return group


def _shares() -> typer.Typer:
    group = new_app("Workspaces that others share with you.")
    add(group, "list", shares.list_shares, "List them.")
    add(group, "accept", shares.accept, "Accept an offer.")
    add(group, "decline", shares.decline, "Decline an offer.")
    add(group, "leave", shares.leave, "Leave a workspace that is shared with you.")
    return group


def _apps() -> typer.Typer:
    group = new_app("Web apps: ports of workspaces, by browser.")
    add(group, "list", apps.list_apps, "List a workspace's apps.")
    add(group, "set", apps.set_app, "Set who may open a port, and give it a name.")
    add(group, "delete", apps.delete, "Delete one.")
    return group


def _devices() -> typer.Typer:
    group = new_app("Your enrolled machines.")
    add(group, "list", devices.list_devices, "List yours.")
    add(group, "show", devices.show, "Show one.")
    add(group, "rename", devices.rename, "Rename one.")
    add(group, "approve", devices.approve, "Approve one that waits.")
    add(group, "delete", devices.delete, "Delete one, and close its tunnels.")
    return group


def _users() -> typer.Typer:
    group = new_app("Users and their roles. For admins and owners.")
    add(group, "create", users.create, "Create one, and print a token to sign in with.")
    add(group, "list", users.list_users, "List all.")
    add(group, "show", users.show, "Show yourself or another, with quotas.")
    add(group, "rename", users.rename, "Rename one.")
    add(group, "set-role", users.set_role, "Make one an owner, an admin or a member.")
    add(group, "sessions", users.sessions, "List a user's sessions and other tokens.")
    add(group, "revoke-session", users.revoke_session, "Revoke one of them.")
    add(group, "sign-in", users.sign_in, "Create a new token to sign in with.")
    add(group, "delete", users.delete, "Delete one with all that they own.")
    return group


def _tokens() -> typer.Typer:
    group = new_app("Session tokens and join keys.")
    add(group, "create", tokens.create, "Create one, and print it.")
    add(group, "list", tokens.list_tokens, "List yours, without their secrets.")
    add(group, "revoke", tokens.revoke, "Revoke one.")
    return group


def _debug() -> typer.Typer:
    group = new_app("Cause faults, and show the server's counters.")
    add(group, "rebind", debug.rebind, "Reset the trust in every path.")
    add(group, "netcheck", debug.netcheck, "Measure the network again.")
    add(group, "break-relay", debug.break_relay, "Break the links to all relays.")
    add(group, "break-server", debug.break_server, "Break the link to the server.")
    add(group, "counters", debug.counters, "Show what the server transferred and rejected.")
    return group


def main() -> None:
    """Runs ``coderctl`` on the process's arguments and ends the process."""
    run(build_app(), "coderctl")


if __name__ == "__main__":
    main()
