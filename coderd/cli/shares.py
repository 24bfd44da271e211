"""``coderctl share`` and ``coderctl shares``: sharing workspaces with others, and what others share."""

from typing import Annotated

import typer

from coderd.api.messages import OfferInfo, ShareInfo, WorkspaceInfo
from coderd.cli.asking import print_json, print_rows, until_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import note, say
from coderd.cli.values import parse_duration
from coderd.model.errors import Exit

Workspace = Annotated[str, typer.Argument(metavar="WORKSPACE", help="One of your workspaces.")]
Offered = Annotated[
    str, typer.Argument(metavar="OWNER/WORKSPACE", help="Another user's workspace, as in ann/dev.")
]
User = Annotated[str, typer.Argument(metavar="USER", help="Another user's name.")]
With = Annotated[str, typer.Option("--with", metavar="USER", help="Another user's name.")]
Ports = Annotated[
    str | None,
    typer.Option(
        metavar="PORTS",
        help="The ports that they may reach: ports and ranges with commas, all, none, or apps: those of your web apps"
        " that are not for the owner only.  [default of a new share: apps]",
    ),
]
Terminal = Annotated[
    bool | None,
    typer.Option("--terminal/--no-terminal", help="Let them open a shell.  [default of a new share: no]"),
]
Expires = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="When it expires, from now: 7d, 12h; or never.  [default of a new share: never]",
    ),
]


def share(
    name: Workspace,
    user: With,
    ports: Ports = None,
    terminal: Terminal = None,
    expires: Expires = None,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Offer one of your workspaces to another user, or change what they may reach.

    Nothing is shared before they accept it, with coderctl shares accept. An offer expires after 14 days. The
    answer does not show whether a user of that name exists. Options that are not given stay as they are.
    Changes take effect at once.

    Examples:
      coderctl share dev --with bob
      coderctl share dev --with bob --ports 22,8000-8999 --terminal --expires 7d
      coderctl share dev --with bob --ports apps --no-terminal
    """
    return _share(name, user, ports, terminal, expires, url, token_file, insecure, json)


def share_positional(
    name: Workspace,
    user: User,
    ports: Ports = None,
    terminal: Terminal = None,
    expires: Expires = None,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Offer one of your workspaces to another user, as coderctl share WORKSPACE --with USER does.

    Examples:
      coderctl workspaces share dev bob --ports 22
    """
    return _share(name, user, ports, terminal, expires, url, token_file, insecure, json)


def list_shares(
    url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """List what others share with you, and what they offer.

    Examples:
      coderctl shares list
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_shares()
    if json:
        print_json(found)
        return Exit.DONE
    rows = [
        (f"{each.owner}/{each.workspace}", each.state, terms_text(each), end_text(each)) for each in found
    ]
    print_rows(rows, "No workspaces are shared with you or offered to you.")
    if any(each.state == "offered" for each in found):
        note("Accept an offer with: coderctl shares accept OWNER/WORKSPACE")
    return Exit.DONE


def accept(
    name: Offered,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Accept an offer. From then on the workspace and your devices know each other's addresses.

    Examples:
      coderctl shares accept ann/dev
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    accepted = client.accept_share(name)
    if json:
        print_json(accepted)
    else:
        say(f"{accepted.owner}/{accepted.workspace} is shared with you: {terms_text(accepted)}")
    return Exit.DONE


def decline(name: Offered, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False) -> int:
    """Decline an offer. Its owner is not notified, and sees it as unanswered until it expires.

    Examples:
      coderctl shares decline ann/dev
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    client.leave_share(name)
    return Exit.DONE


def leave(name: Offered, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False) -> int:
    """Leave a workspace that is shared with you: your devices can no longer reach it, at once.

    Examples:
      coderctl shares leave ann/dev
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    client.leave_share(name)
    return Exit.DONE


def terms_text(share: ShareInfo | OfferInfo) -> str:
    """Returns what a share lets its user reach: ``ports 22,80, no terminal``."""
    if share.ports == "all" and share.terminal:
        return "all ports and terminal"
    ports = {"all": "all ports", "none": "no ports"}.get(share.open_ports, f"ports {share.open_ports}")
    if share.ports == "apps":
        ports = f"the apps' ports ({share.open_ports})"
    return f"{ports}, {'terminal' if share.terminal else 'no terminal'}"


def end_text(share: ShareInfo | OfferInfo) -> str:
    """Returns when an offer or a share expires; empty where it does not."""
    if share.lapses_at is not None:
        return f"offer expires {until_text(share.lapses_at)}"
    return f"until {until_text(share.expires_at)}" if share.expires_at is not None else ""


def share_facts(workspace: WorkspaceInfo) -> dict[str, str]:
    """Returns the users whom a workspace is shared with or offered to, and what each may reach."""
    facts = {}
    for each in workspace.shares:
        state = "shared with" if each.state == "accepted" else "offered to"
        end = end_text(each)
        facts[f"{state} {each.user}"] = ", ".join(filter(None, (terms_text(each), end)))
    return facts


def warn(workspace: WorkspaceInfo, user: str | None = None) -> None:
    """Warns on stderr of users who reach more of a workspace than its owner may expect."""
    here = [each for each in workspace.shares if user is None or each.user == user]
    for each in here:
        if each.ports == "all" and each.terminal:
            note(
                f"{each.user} has all ports and the terminal, as every share had before 0.2: restrict it with"
                f" coderctl share {workspace.name} --with {each.user} --ports apps --no-terminal"
            )
    narrowed = [each for each in here if each.ports != "all" or not each.terminal]
    if narrowed and workspace.enforces is False:
        note(
            f"Warning: {workspace.owner}/{workspace.name} runs a coderd that does not enforce ports and terminals of shares:"
            " users with a share reach everything there until it is upgraded."
        )


def _share(
    name: str,
    user: str,
    ports: str | None,
    terminal: bool | None,
    expires: str | None,
    url: str | None,
    token_file: str | None,
    insecure: bool,
    json: bool,
) -> int:
    is_endless = expires == "never"
    lifetime = None if expires is None or is_endless else parse_duration(expires)
    client, _ = open_api(url, token_file, insecure=insecure)
    workspace = client.share_workspace(
        name, user, ports=ports, terminal=terminal, lifetime=lifetime, endless=is_endless
    )
    if json:
        print_json(workspace)
    else:
        for each in (each for each in workspace.shares if each.user == user):
            state = "shared with" if each.state == "accepted" else "offered to"
            told = ", ".join(filter(None, (terms_text(each), end_text(each))))
            say(f"{workspace.owner}/{workspace.name} is {state} {user}: {told}")
            if each.state == "offered":
                note(
                    f"It works once {user} accepts it: coderctl shares accept {workspace.owner}/{workspace.name}"
                )
    warn(workspace, user)
    return Exit.DONE
