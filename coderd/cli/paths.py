"""``coderctl paths``: the paths between nodes, as they report them."""

from coderd.api.messages import ReachInfo
from coderd.cli.asking import All, print_json, print_rows
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.values import ago_text, latency_text
from coderd.model.errors import Exit

_HEAD = ("FROM", "TO", "PATH", "RTT", "SINCE")


def paths(
    everyones: All = False,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Show by which path your machines reach their peers, how fast, and since when.

    Examples:
      coderctl paths
      coderctl paths --all
      coderctl paths --json | jq '.[] | select(.path == "relay")'
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_paths(everyones=everyones)
    if json:
        print_json(found)
        return Exit.DONE
    rows = [_row(each) for each in found]
    print_rows([_HEAD, *rows] if rows else [], "None of your machines reports a path: none is connected.")
    return Exit.DONE


def _row(reach: ReachInfo) -> tuple[str, ...]:
    path = f'relay "{reach.region}"' if reach.path == "relay" else reach.path
    if reach.path == "none":
        path = "idle"
    rtt = latency_text(1000 * reach.rtt) if reach.rtt is not None else "-"
    return reach.node, reach.peer, path, rtt, ago_text(reach.since)
