"""``coderctl workspaces connections`` and ``cut``: who is at a workspace, and how to be rid of them."""

from typing import Annotated

import typer

from coderd.cli.asking import print_json, print_rows, since_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import note
from coderd.model.errors import Exit, UserError

Workspace = Annotated[str, typer.Argument(metavar="WORKSPACE", help="A workspace of yours.")]
Whom = Annotated[
    str, typer.Argument(metavar="USER[/DEVICE]", help="Whom to cut off, as connections lists them.")
]


def connections(
    name: Workspace,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Show who is connected to a workspace of yours, how, and since when.

    Tunnels are listed as their ends report them, within seconds; apps and terminals by browser go through the server.

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
    print_rows(rows, "Nobody is connected.")
    return Exit.DONE


def cut(
    name: Workspace,
    whom: Whom,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
) -> int:
    """Cut a guest off from a workspace of yours: all that they have open there ends now.

    This takes the share back, which is a person's and not a device's: they come back only when you share anew and they accept.
    A device of your own always reaches your workspaces: delete it instead, with coderctl devices delete.
    An app that is for everybody signed in, or public, needs no share: change it with coderctl apps set.

    Examples:
      coderctl workspaces cut dev bob
      coderctl workspaces cut dev bob/laptop
    """
    user, _, device = whom.partition("/")
    client, _ = open_api(url, token_file, insecure=insecure)
    if user == client.get_workspace(name).owner:
        raise UserError(
            f"{whom} is the workspace's owner, whose devices always reach it",
            exit_code=Exit.USAGE,
            hint=f"End a device with: coderctl devices delete {device or 'DEVICE'}",
            code="own_device",
        )
    workspace = client.unshare_workspace(name, user)
    note(
        f"{user} is cut off from {workspace.owner}/{workspace.name}, with every device: the share is taken back."
    )
    return Exit.DONE
