"""``coderctl why``: how a workspace is reached, and why not directly."""

from collections.abc import Iterator

from coderd.cli.netcheck import mtu_text, nat_text
from coderd.cli.options import SOCKET, Json, Socket, Workspace
from coderd.cli.say import say_json, say_text
from coderd.cli.shown import Shown, lines_text
from coderd.cli.status_text import aligned
from coderd.cli.values import latency_text
from coderd.control.io.client import ControlClient
from coderd.control.messages import WHY, Why, WhyParams
from coderd.model.errors import Exit
from coderd.model.paths import PathKind
from coderd.netcheck.facts import Facts

PATIENCE = 20.0
"""Seconds to wait for the daemon, which takes eight at most."""


def why(workspace: Workspace, socket: Socket = SOCKET, json: Json = False) -> int:
    """Explain how a workspace is reached and, if not directly, why: the deciding cause first, with its fix.

    Examples:
      coderctl why dev
      coderctl why dev --json | jq '.causes[0].cause'

    Both ends measure their network, which takes a few seconds. Exits with 0 if the path is direct, 10 if it
    is relayed, 11 if there is none.
    """
    with ControlClient(socket) as client:
        found = client.call(WHY, WhyParams(peer=workspace), patience=PATIENCE)
    if json:
        say_json(found)
    else:
        say_text(why_text(found))
    return {PathKind.DIRECT: Exit.DONE, PathKind.RELAY: Exit.ONLY_RELAYED, PathKind.NONE: Exit.NO_PATH}[
        found.path.kind
    ]


def why_text(found: Why) -> Shown:
    """Returns the explanation as lines for people."""
    rows = [["", "this machine", found.name], *_rows(found.this, found.peer)]
    if found.peer is None:
        rows = [row[:2] for row in rows]
    lines = [_verdict(found), *_causes(found), "", *aligned(rows)]
    if found.not_asked:
        lines += ["", f"{found.name} could not be asked: {found.not_asked}."]
    lines += ["", *found.notes] if found.notes else []
    return lines_text(lines)


def _verdict(found: Why) -> str:
    latency = f", {latency_text(found.path.latency_ms)}" if found.path.latency_ms is not None else ""
    match found.path.kind:
        case PathKind.DIRECT:
            return f"{found.name} is reached directly at {found.path.via}{latency}."
        case PathKind.RELAY:
            return f'{found.name} is reached only by relay "{found.path.via}"{latency}.'
        case PathKind.NONE:
            return f"{found.name} cannot be reached."


def _causes(found: Why) -> Iterator[str]:
    for number, cause in enumerate(found.causes):
        yield ""
        yield ("Also: " if number else "Because: ") + cause.sentence
        yield f"  Fix: {cause.fix}"


def _rows(this: Facts, peer: Facts | None) -> list[list[str]]:
    both = [this, peer if peer is not None else Facts()]
    return [
        ["UDP", *(_udp(facts) for facts in both)],
        ["NAT", *(nat_text(facts.nat, facts.mapping, facts.varies) for facts in both)],
        ["filtering", *(facts.filtering for facts in both)],
        ["MTU", *(mtu_text(facts.mtu, facts.mtu_needed, facts.carries_full) for facts in both)],
        ["relay", *(_relay(facts) for facts in both)],
        ["addresses", *(str(facts.endpoints) for facts in both)],
    ]


def _relay(facts: Facts) -> str:
    if not facts.relay:
        return "not connected"
    return f"{facts.home}, by WebSocket" if facts.websocket else facts.home


def _udp(facts: Facts) -> str:
    """Returns whether UDP works; unknown where the server itself can get no datagram."""
    udp = None if facts.server == "closed" else facts.udp
    return {True: "works", False: "blocked", None: "unknown"}[udp]
