"""``coderctl users``: the users of the server, their roles and their sessions."""

from typing import Annotated

import typer

from coderd.api.messages import UserInfo
from coderd.cli.asking import Yes, confirm, print_facts, print_json, print_rows, until_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import note, say
from coderd.cli.tokens import WithNodes, revoke_one, token_rows
from coderd.cli.values import parse_role
from coderd.model.errors import Exit

Name = Annotated[str, typer.Argument(metavar="USER", help="A user's name or id.")]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="A DNS label: letters, digits, hyphens.")]
Role = Annotated[str, typer.Option("--role", metavar="ROLE", help="owner, admin or member.")]


def create(
    name: NewName,
    role: Role = "member",
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Create a user and print their token to sign in with. It is shown only once.

    Examples:
      coderctl users create ann
      coderctl users create eve --role admin
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    made = client.create_user(name, parse_role(role))
    if json:
        print_json(made)
        return Exit.DONE
    note(f"Created {made.name}. This is the token to sign in with, shown only once:")
    say(made.token)
    return Exit.DONE


def list_users(
    url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """List all users.

    Examples:
      coderctl users list
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_users()
    if json:
        print_json(found)
    else:
        print_rows([(user.name, user.role, str(user.id)) for user in found], "No users.")
    return Exit.DONE


def show(
    name: Annotated[
        str | None, typer.Argument(metavar="USER", help="A user's name or id.  [default: yourself]")
    ] = None,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Show a user, with how much they have and may have: yourself, or any user for admins and owners.

    Examples:
      coderctl users show
      coderctl users show ann
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.me() if name is None else client.get_user(name), json)


def rename(
    name: Name,
    new_name: NewName,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Rename a user. Their workspaces and devices have the new name at once.

    Examples:
      coderctl users rename ann anna
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.change_user(name, name=new_name), json)


def set_role(
    name: Name,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="owner, admin or member.")],
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Make a user an owner, an admin or a member.

    Admins manage members and what they own; owners manage everyone.

    Examples:
      coderctl users set-role ann admin
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.change_user(name, role=parse_role(role)), json)


def sessions(
    name: Name, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """List a user's sessions and join keys, and the tokens of their devices and workspaces.

    Examples:
      coderctl users sessions ann
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_user_tokens(name)
    if json:
        print_json(found)
    else:
        print_rows(token_rows(found), "No sessions.")
    return Exit.DONE


def revoke_session(
    name: Name,
    token_id: Annotated[
        str, typer.Argument(metavar="ID", help="The session's id, as coderctl users sessions shows it.")
    ],
    with_nodes: WithNodes = False,
    yes: Yes = False,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Revoke a session or another token of a user, and those created with it. All of them are listed first.

    Examples:
      coderctl users revoke-session ann 5f0c2a52-6b43-4f0e-9d5e-0c7f7f0e8a11
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return revoke_one(client, token_id, user=name, nodes=with_nodes, yes=yes, json=json)


def sign_in(
    name: Name, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """Create a new token for a user to sign in with, and print it.

    It is shown only once. Their other tokens stay.

    Examples:
      coderctl users sign-in ann
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    given = client.give_sign_in(name)
    if json:
        print_json(given)
        return Exit.DONE
    note(
        f"{given.name} can sign in with this token until {until_text(given.expires_at)}. It is shown only once:"
    )
    say(given.token)
    return Exit.DONE


def delete(
    name: Name, yes: Yes = False, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False
) -> int:
    """Delete a user with all their workspaces, devices and tokens.

    Examples:
      coderctl users delete ann
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    confirm(f"Delete {name}, with all their workspaces and devices?", yes)
    client.delete_user(name)
    say(f"Deleted {name}")
    return Exit.DONE


def _show(user: UserInfo, json: bool) -> int:
    if json:
        print_json(user)
    else:
        usage = {kind: f"{each.used} of {each.most}" for kind, each in user.usage.items()}
        print_facts({"name": user.name, "role": user.role, "id": str(user.id), **usage})
    return Exit.DONE
