"""``coderctl workspaces``: what the server keeps, asked of the server itself."""

import sys
from typing import Annotated

import msgspec
import typer

from coderd.cli.options import Json, TokenFile, Url
from coderd.cli.session import open_api
from coderd.cli.shell import note
from coderd.cli.status_text import aligned
from coderd.config.url import PIN_PREFIX, parse_server_url
from coderd.model.errors import Exit

Name = Annotated[str, typer.Argument(metavar="NAME", help="A DNS label: letters, digits, hyphens.")]


def create(name: Name, url: Url = None, token_file: TokenFile = None, json: Json = False) -> int:
    """Create a workspace, and print the one line that joins its machine. Its token is shown this once.

    Examples:
      coderctl workspaces create dev
    """
    client, origin = open_api(url, token_file)
    made = client.create_workspace(name)
    if json:
        _print_json(made)
        return Exit.DONE
    note(
        f"Created {made.owner}/{made.name}, {made.address}. This joins its machine; the token is shown only now:"
    )
    print(join_line(origin, made.token))
    return Exit.DONE


def join_line(origin: str, token: str) -> str:
    """A line for the workspace's shell: the token goes through stdin, so that it is in no process's arguments."""
    url = parse_server_url(origin)
    pin = f" --pin {PIN_PREFIX}{url.pin}" if url.pin else ""
    return f"echo {token} | sudo coderd run --access-url {url}{pin} --token-file -"


def list_workspaces(url: Url = None, token_file: TokenFile = None, json: Json = False) -> int:
    """List your workspaces.

    Examples:
      coderctl workspaces list
    """
    client, _ = open_api(url, token_file)
    found = client.list_workspaces()
    if json:
        _print_json(found)
        return Exit.DONE
    rows = [
        (f"{each.owner}/{each.name}", each.address, "online" if each.online else "offline") for each in found
    ]
    for line in aligned(rows):
        print(line)
    if not rows:
        note("No workspaces yet. Create one with: coderctl workspaces create NAME")
    return Exit.DONE


def delete(name: Name, url: Url = None, token_file: TokenFile = None) -> int:
    """Delete a workspace: its machine is refused from then on.

    Examples:
      coderctl workspaces delete dev
    """
    client, _ = open_api(url, token_file)
    client.delete_workspace(name)
    print(f"Deleted {name}")
    return Exit.DONE


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.buffer.flush()
