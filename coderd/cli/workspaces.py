"""``coderctl workspaces``: creates, lists and deletes workspaces at the server."""

from typing import Annotated

import typer

from coderd.api.joining import join_line
from coderd.api.messages import WorkspaceInfo
from coderd.cli.asking import All, Yes, confirm, print_json, print_rows
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import note, say
from coderd.config.url import parse_server_url
from coderd.model.errors import Exit

Name = Annotated[str, typer.Argument(metavar="NAME", help="A DNS label: letters, digits, hyphens.")]


def create(
    name: Name,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Create a workspace and print the command that joins its machine. Its token is shown only once.

    Examples:
      coderctl workspaces create dev
    """
    client, origin = open_api(url, token_file, insecure=insecure)
    made = client.create_workspace(name)
    if json:
        print_json(made)
        return Exit.DONE
    note(
        f"Created {made.owner}/{made.name}, {made.address}. This command joins its machine; the token is shown only once:"
    )
    say(join_line(parse_server_url(origin), made.token))
    return Exit.DONE


def list_workspaces(
    everyones: All = False,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """List your workspaces and those shared with you.

    Examples:
      coderctl workspaces list
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_workspaces(everyones=everyones)
    if json:
        print_json(found)
        return Exit.DONE
    rows = [(f"{each.owner}/{each.name}", each.address, _state(each)) for each in found]
    print_rows(rows, "No workspaces yet. Create one with: coderctl workspaces create NAME")
    return Exit.DONE


def delete(
    name: Name, yes: Yes = False, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False
) -> int:
    """Delete a workspace: its tunnels close at once, and its machine is rejected from then on.

    Examples:
      coderctl workspaces delete dev
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    confirm(f"Delete the workspace {name}?", yes)
    client.delete_workspace(name)
    say(f"Deleted {name}")
    return Exit.DONE


def _state(workspace: WorkspaceInfo) -> str:
    presence = "online" if workspace.online else "offline"
    return presence if workspace.path == "direct" else f"{presence}, {workspace.path}"
