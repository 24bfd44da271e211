"""``coderctl debug``: faults on purpose, and the server's counters; for tests and for finding defects."""

from collections.abc import Iterator

import msgspec

from coderd.cli.login import open_api
from coderd.cli.options import SOCKET, Insecure, Json, Socket, TokenFile, Url
from coderd.cli.say import say, say_json
from coderd.control.io.client import ControlClient
from coderd.control.messages import DEBUG, DebugAction, DebugParams
from coderd.model.errors import Exit


def rebind(socket: Socket = SOCKET) -> int:
    """Reset the trust in every path, as if the machine had changed its network.

    Examples:
      sudo coderctl debug rebind
    """
    return _do("rebind", socket)


def netcheck(socket: Socket = SOCKET) -> int:
    """Measure the network again, now.

    Examples:
      sudo coderctl debug netcheck
    """
    return _do("netcheck", socket)


def break_relay(socket: Socket = SOCKET) -> int:
    """Break the links to all relays.

    Examples:
      sudo coderctl debug break-relay
    """
    return _do("break-relay", socket)


def break_server(socket: Socket = SOCKET) -> int:
    """Break the link to the server.

    Examples:
      sudo coderctl debug break-server
    """
    return _do("break-server", socket)


def _do(action: DebugAction, socket: Socket) -> int:
    with ControlClient(socket) as client:
        say(client.call(DEBUG, DebugParams(action=action)).text)
    return Exit.DONE


def counters(
    url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """Show what the server has transferred and rejected since it started. For admins and owners.

    Examples:
      coderctl debug counters --json
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.counters()
    if json:
        say_json(found)
        return Exit.DONE
    for name, value in flat(msgspec.to_builtins(found)):
        say(f"{name} {value}")
    return Exit.DONE


def flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yields the leaves of nested objects and lists, each with its dotted name."""
    if isinstance(value, dict):
        inner = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        inner = [(str(index), each) for index, each in enumerate(value)]
    else:
        yield name, value
        return
    for key, each in inner:
        yield from flat(each, f"{name}.{key}" if name else key)
