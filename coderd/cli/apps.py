"""``coderctl apps``: the users who may open a port of a workspace by browser."""

from typing import Annotated

import typer

from coderd.api.messages import AppInfo
from coderd.cli.asking import Yes, confirm, print_json, print_rows
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import say
from coderd.cli.values import parse_share
from coderd.config.url import parse_server_url
from coderd.model.errors import Exit

Workspace = Annotated[str, typer.Argument(metavar="WORKSPACE", help="One of your workspaces.")]
App = Annotated[str, typer.Argument(metavar="APP", help="A port, or a name for one: a DNS label.")]


def list_apps(
    workspace: Workspace,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """List a workspace's apps. Any other port is an app as well, for its owner only.

    Examples:
      coderctl apps list dev
    """
    client, origin = open_api(url, token_file, insecure=insecure)
    found = client.list_apps(workspace)
    if json:
        print_json(found)
        return Exit.DONE
    rows = [(app.name, str(app.port), app.share, _where(app, origin)) for app in found]
    print_rows(rows, "No apps are set: every port is for the owner only.")
    return Exit.DONE


def set_app(
    workspace: Workspace,
    app: App,
    share: Annotated[
        str,
        typer.Option(
            "--share", metavar="WHOM", help="For owner, shared (as the workspace), authenticated or public."
        ),
    ] = "owner",
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", min=1, max=65535, help="The port that a name is for."),
    ] = None,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Set who may open a port of a workspace by browser, and print its URL.

    Examples:
      coderctl apps set dev 8080 --share shared
      coderctl apps set dev docs --port 8000 --share public
    """
    wanted = parse_share(share)
    client, origin = open_api(url, token_file, insecure=insecure)
    made = client.set_app(workspace, app, wanted, port)
    if json:
        print_json(made)
    else:
        say(_where(made, origin))
    return Exit.DONE


def delete(
    workspace: Workspace,
    app: App,
    yes: Yes = False,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
) -> int:
    """Delete an app: its name stops working, and its port is for the owner only.

    Examples:
      coderctl apps delete dev docs
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    confirm(f"Delete the app {app} of {workspace}?", yes)
    client.delete_app(workspace, app)
    return Exit.DONE


def _where(app: AppInfo, origin: str) -> str:
    """Returns an app's URL: its own host where it has one, else a path at the server."""
    server = parse_server_url(origin)
    if not app.host:
        return f"{server}{app.path}"
    is_usual = server.port == (443 if server.is_tls else 80)
    return f"{server.scheme}://{app.host}/" if is_usual else f"{server.scheme}://{app.host}:{server.port}/"
