"""``coderctl tokens``: session tokens with scopes and expiry, and the join keys of workspaces."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from coderd.api.joining import join_line
from coderd.api.messages import TokenInfo
from coderd.cli.asking import Yes, confirm, print_json, print_rows, until_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import note, say
from coderd.cli.status_text import aligned
from coderd.cli.values import parse_duration, parse_scope
from coderd.config.url import parse_server_url
from coderd.model.errors import Exit, UserError

if TYPE_CHECKING:
    from coderd.api.io.client import ApiClient

WithNodes: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--with-nodes",
        help="Also revoke the tokens of devices and workspaces that it enrolled, and others' sign-ins.",
    ),
]
Name: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="A name to recognise it by: a DNS label.")
]
IsJoinKey: TypeAlias = Annotated[
    bool, typer.Option("--join", help="Create a join key, for a workspace's machine.")
]
IsReusable: TypeAlias = Annotated[
    bool, typer.Option("--reusable", help="Let the join key join any number of machines.")
]
JoinedWorkspace: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        metavar="WORKSPACE",
        help="The workspace that a join key joins.  [default: a new one each time]",
    ),
]
ScopeText: TypeAlias = Annotated[
    str,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="What a session may do: all, read (change nothing) or enrol (devices).",
    ),
]
Expires: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--expires",
        metavar="DURATION",
        help="When it expires, from now: 30m, 24h.  [default: as your own token does]",
    ),
]


def create(
    name: Name,
    join: IsJoinKey = False,
    reusable: IsReusable = False,
    workspace: JoinedWorkspace = None,
    scope: ScopeText = "all",
    expires: Expires = None,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Create a token and print it. It is shown only once.

    Without --join it is a session of yours. With --join it is a join key: the machine that uses it becomes
    your workspace.

    Examples:
      coderctl tokens create ci --scope read --expires 24h
      coderctl tokens create image --join --reusable --expires 720h
    """
    if not join and (reusable or workspace is not None):
        raise UserError(
            "only a join key can be reusable or for one workspace", exit_code=Exit.USAGE, hint="Add --join."
        )
    lifetime = None if expires is None else parse_duration(expires)
    client, origin = open_api(url, token_file, insecure=insecure)
    made = client.create_token(
        "join" if join else "session",
        name,
        scope=parse_scope(scope),
        lifetime=lifetime,
        reusable=reusable,
        workspace=workspace,
    )
    if json:
        print_json(made)
        return Exit.DONE
    note(f"Created {name}; it expires: {until_text(made.info.expires_at)}. It is shown only once:")
    say(join_line(parse_server_url(origin), made.token) if join else made.token)
    return Exit.DONE


def list_tokens(
    url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """List your tokens and those of your workspaces and devices, without their secrets.

    Examples:
      coderctl tokens list
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_tokens()
    if json:
        print_json(found)
        return Exit.DONE
    print_rows(token_rows(found), "No tokens.")
    return Exit.DONE


def token_rows(found: Sequence[TokenInfo]) -> list[tuple[str, ...]]:
    """Returns a row for each token, with the id of its parent, whose revocation revokes it."""
    return [
        (
            str(each.id),
            "sign-in" if each.is_sign_in else each.kind,
            each.name or each.node or "-",
            each.scope if each.uses_left is None else f"{each.uses_left} left",
            until_text(each.expires_at),
            f"created with {each.made_with}" if each.made_with is not None else "",
        )
        for each in found
    ]


def revoke_one(
    client: "ApiClient", token_id: str, *, user: str | None, nodes: bool, yes: bool, json: bool
) -> int:
    """Lists the tokens that are revoked with a token, asks for confirmation, and revokes them."""
    if not yes:
        ends = client.token_descent(token_id, user=user, nodes=nodes)
        for line in aligned(token_rows(ends)):
            note(line)
        confirm("Revoke it?" if len(ends) == 1 else f"Revoke these {len(ends)}?", yes)
    ended = client.revoke_token(token_id, user=user, nodes=nodes)
    if json:
        print_json(ended)
    else:
        for each in ended:
            say(f"Revoked {each.id}")
    return Exit.DONE


def revoke(
    token_id: Annotated[
        str, typer.Argument(metavar="ID", help="The token's id, as coderctl tokens list shows it.")
    ],
    with_nodes: WithNodes = False,
    yes: Yes = False,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Revoke a token, and the sessions and join keys created with it. All of them are listed first.

    Revoking a workspace's or device's token closes its tunnels at once. Machines that a session or join key
    enrolled stay, unless --with-nodes revokes their tokens, too, and the sign-ins that it gave to others.

    Examples:
      coderctl tokens revoke 5f0c2a52-6b43-4f0e-9d5e-0c7f7f0e8a11
      coderctl tokens revoke 5f0c2a52-6b43-4f0e-9d5e-0c7f7f0e8a11 --with-nodes
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return revoke_one(client, token_id, user=None, nodes=with_nodes, yes=yes, json=json)
