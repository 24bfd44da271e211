"""``coderctl workspaces connections`` and ``cut``.

The users connected to a workspace, and how to disconnect one.
"""

from typing import Annotated

import typer

from coderd.cli.asking import print_json, print_rows, since_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import note
from coderd.model.errors import Exit, UserError

Workspace = Annotated[str, typer.Argument(metavar="WORKSPACE", help="One of your workspaces.")]
Whom = Annotated[
    str, typer.Argument(metavar="USER[/DEVICE]", help="The user to disconnect, as connections lists them.")
]


def connections(
    name: Workspace,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Show who is connected to one of your workspaces, how, and since when.

    Tunnels are listed as their ends report them, within seconds. Web apps and terminals by browser go through
    the server.

    Examples:
      coderctl workspaces connections dev
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_connections(name)
    if json:
        print_json(found)
        return Exit.DONE
    rows = []
    for each in found:
        who = f"{each.user}/{each.device}" if each.device else each.user or "(not signed in)"
        how = f"app {each.what}" if each.kind == "app" else each.kind
        rows.append((who, f"{how}, {each.path}" if each.path else how, f"since {since_text(each.since)}"))
    print_rows(rows, "No users are connected.")
    return Exit.DONE


def cut(
    name: Workspace,
    whom: Whom,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
) -> int:
    """Stop sharing one of your workspaces with a user, and close all that they have open there.

    This revokes the share, which is for the user, not for one device: they can connect again only after you
    share it again and they accept. Your own devices always reach your workspaces: to stop one, use coderctl
    devices delete. A web app that is authenticated or public needs no share: change it with coderctl apps
    set.

    Examples:
      coderctl workspaces cut dev bob
      coderctl workspaces cut dev bob/laptop
    """
    user, _, device = whom.partition("/")
    client, _ = open_api(url, token_file, insecure=insecure)
    if user == client.get_workspace(name).owner:
        raise UserError(
            f"{whom} is the workspace's owner: an owner's devices always reach it",
            exit_code=Exit.USAGE,
            hint=f"Delete a device with: coderctl devices delete {device or 'DEVICE'}",
            code="own_device",
        )
    workspace = client.unshare_workspace(name, user)
    note(
        f"{user} is disconnected from {workspace.owner}/{workspace.name}, with every device: the share is revoked."
    )
    return Exit.DONE
