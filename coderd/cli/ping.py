"""``coderctl ping``."""

from typing import Annotated

import typer

from coderd.cli.options import SOCKET, Json, Socket, Workspace
from coderd.cli.say import note, say, say_json
from coderd.cli.values import latency_text, parse_duration
from coderd.control.io.client import ControlClient
from coderd.control.messages import PING, PingParams, PingResult, Pong
from coderd.model.errors import Exit, UserError

MARGIN = 10.0
"""Seconds to wait for the daemon beyond a ping's own timeout."""


def ping(
    workspace: Workspace,
    count: Annotated[
        int, typer.Option("-c", "--count", metavar="NUMBER", min=0, help="How many pings; 0: until ^C.")
    ] = 10,
    until_direct: Annotated[
        bool, typer.Option("--until-direct", help="Stop at the first direct pong.")
    ] = False,
    interval: Annotated[
        str, typer.Option("-i", "--interval", metavar="DURATION", help="Time between pings.")
    ] = "1s",
    timeout: Annotated[
        str, typer.Option("-t", "--timeout", metavar="DURATION", help="How long to wait for each pong.")
    ] = "5s",
    socket: Socket = SOCKET,
    json: Json = False,
) -> int:
    """Ping a workspace on its best path, and show which path that was and when it became direct.

    Examples:
      coderctl ping dev
      coderctl ping dev -c 30 --until-direct

    Exits with 0 if any pong came, by any path, else with 6. With --until-direct: 0 if one came directly, 10
    if only by relay, 11 if none came.
    """
    params = PingParams(
        peer=workspace,
        count=count,
        interval_s=_seconds(interval),
        timeout_s=_seconds(timeout),
        until_direct=until_direct,
    )
    with ControlClient(socket) as client:
        call = client.start(PING, params, patience=params.timeout_s + params.interval_s + MARGIN)
        for pong in call:
            _show(pong, params, json)
    if json:
        say_json(call.result, is_line=True)
    return verdict(call.result, params)


def verdict(result: PingResult, params: PingParams) -> int:
    """Returns the exit code of a ping that ended; notes on stderr what was missing."""
    if result.direct or (result.received and not params.until_direct):
        return Exit.DONE
    if result.received:
        note(f"coderctl: {params.peer} answered {result.received} of {result.sent} pings, none directly")
        return Exit.ONLY_RELAYED
    note(f"coderctl: {params.peer} answered none of {result.sent} pings")
    return Exit.NO_PATH if params.until_direct else Exit.TIMED_OUT


def pong_lines(pong: Pong, params: PingParams) -> list[str]:
    """Returns a line for one ping, and a second one if the path has just become direct."""
    if pong.timeout or pong.latency_ms is None:
        return [f"no pong from {params.peer} within {params.timeout_s:g}s"]
    via = pong.via if pong.path == "direct" else f'relay "{pong.via}"'
    line = f"pong from {params.peer} via {via} in {latency_text(pong.latency_ms)}"
    return [line] if pong.direct_after_s is None else [line, f"direct after {pong.direct_after_s:.2f} s"]


def _show(pong: Pong, params: PingParams, as_json: bool) -> None:
    if as_json:
        say_json(pong, is_line=True)
    else:
        say(*pong_lines(pong, params))


def _seconds(text: str) -> float:
    seconds = parse_duration(text)
    if not 0.01 <= seconds <= 3600:
        raise UserError(f"{text} is not between 10ms and 1h", exit_code=Exit.USAGE)
    return seconds
