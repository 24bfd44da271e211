"""``coderctl audit``: the log of changes and of access."""

from typing import Annotated

import typer

from coderd.cli.asking import print_json, print_rows, until_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import note
from coderd.model.errors import Exit


def audit(
    limit: Annotated[
        int, typer.Option("-n", "--limit", metavar="NUMBER", min=1, max=500, help="The most entries to show.")
    ] = 50,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="NUMBER", min=1, help="Only entries with smaller numbers."),
    ] = None,
    used: Annotated[
        bool, typer.Option("--used", help="Show the use of tunnels, web apps and terminals instead.")
    ] = False,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Show who changed what, when and from where, newest first. For admins and owners.

    Examples:
      coderctl audit
      coderctl audit --limit 500 --json
      coderctl audit --used
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    page = client.audit(before=before, limit=limit, opened=used)
    if json:
        print_json(page)
        return Exit.DONE
    rows = [
        (
            str(entry.number),
            until_text(entry.at),
            entry.actor,
            entry.source or "-",
            entry.action,
            entry.target,
            entry.detail,
        )
        for entry in page.entries
    ]
    print_rows(rows, "Nothing has been used." if used else "Nothing has been changed.")
    if page.next is not None:
        note(f"Older entries: coderctl audit {'--used ' if used else ''}--before {page.next}")
    return Exit.DONE
