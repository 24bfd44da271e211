"""``coderctl workspaces show``, ``rename``, ``unshare`` and ``set``.

They concern one workspace, and who may reach it how.
"""

from typing import Annotated

import typer

from coderd.api.messages import WorkspaceInfo
from coderd.cli.asking import print_facts, print_json, since_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.shares import share_facts, warn
from coderd.cli.values import parse_path
from coderd.model.errors import Exit

Name = Annotated[
    str,
    typer.Argument(metavar="WORKSPACE", help="A workspace: dev is your own, ann/dev is ann's."),
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="A DNS label: letters, digits, hyphens.")]
User = Annotated[str, typer.Argument(metavar="USER", help="Another user's name.")]


def show(
    name: Name, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """Show a workspace: its address, its path rule, and with whom it is shared.

    Examples:
      coderctl workspaces show dev
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.get_workspace(name), json)


def rename(
    name: Name,
    new_name: NewName,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Rename a workspace.

    Examples:
      coderctl workspaces rename dev lab
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.change_workspace(name, name=new_name), json)


def unshare(
    name: Name,
    user: User,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Stop sharing a workspace with a user and close their tunnels to it, or withdraw an offer.

    Examples:
      coderctl workspaces unshare dev bob
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.unshare_workspace(name, user), json)


def set_policy(
    name: Name,
    path: Annotated[
        str,
        typer.Option(
            "--path", metavar="PATH", help="direct (any path), relay-only, or deny (no peer reaches it)."
        ),
    ],
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Set by which paths a workspace may be reached.

    What the server forbids for all workspaces stays forbidden.

    Examples:
      coderctl workspaces set dev --path relay-only
    """
    rule = parse_path(path)
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.change_workspace(name, path=rule), json)


def _show(workspace: WorkspaceInfo, json: bool) -> int:
    if json:
        print_json(workspace)
        return Exit.DONE
    print_facts(
        {
            "name": f"{workspace.owner}/{workspace.name}",
            "id": str(workspace.id),
            "address": workspace.address,
            "state": "online" if workspace.online else "offline",
            "path": workspace.path,
            **share_facts(workspace),
            "created": since_text(workspace.created_at),
        }
    )
    warn(workspace)
    return Exit.DONE
