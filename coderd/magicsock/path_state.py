"""The states of one peer's path, and every way from one to another: the table that ``BestPath`` goes by.

The picture in ``docs/architecture/node-and-paths.md`` is drawn from ``TRANSITIONS`` by
``tests/unit/magicsock/path_picture.py``, and a test holds them together. What is not in the table cannot
happen: looking it up raises KeyError, which is a bug of ours.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class PathState(Enum):
    """What is known of the direct path to one peer, and what is done about it. The values say so to people.

    The relay, if any, carries what no direct path does. Pins and the server's policy restrict what is used,
    not what is known.
    """

    IDLE = "no direct path, and none is looked for"
    LOOKING = "no direct path is trusted: rounds of pings and call-me-maybes; the relay carries everything"
    DIRECT = "a direct path is trusted to carry everything; heartbeats renew that"
    DOUBT = "the direct path still carries everything, but is silent: it is pinged often"
    SUSPECT = "the relay carries everything too, and any other path that answers is taken"


class PathEvent(Enum):
    """What moves a path from one state to another. The values say so to people."""

    WANTED = "data or a user's ping is to be sent, or the server has named something new"
    UNUSED = "nothing was sent for 45 s"
    PONG = "a pong of full size, or one that renews the direct path"
    SILENT = "something is sent, and nothing has come back for 0.3 s"
    DESERTED = "the peer was heard elsewhere, and not here for two round trips"
    OVERDUE = "no pong for 0.1 s, or two round trips"
    GIVEN_UP = "no pong for 2 s, or four round trips"
    TRUST_ENDED = "no pong for 6.5 s"
    WITHDRAWN = "the path is void: network, socket, address or permission is gone"


TRANSITIONS: Final[Mapping[PathState, Mapping[PathEvent, PathState]]] = {
    PathState.IDLE: {
        PathEvent.WANTED: PathState.LOOKING,
        PathEvent.PONG: PathState.DIRECT,
    },
    PathState.LOOKING: {
        PathEvent.PONG: PathState.DIRECT,
        PathEvent.UNUSED: PathState.IDLE,
    },
    PathState.DIRECT: {
        PathEvent.PONG: PathState.DIRECT,
        PathEvent.SILENT: PathState.DOUBT,
        PathEvent.DESERTED: PathState.DOUBT,
        PathEvent.TRUST_ENDED: PathState.LOOKING,
        PathEvent.WITHDRAWN: PathState.LOOKING,
    },
    PathState.DOUBT: {
        PathEvent.PONG: PathState.DIRECT,
        PathEvent.OVERDUE: PathState.SUSPECT,
        PathEvent.TRUST_ENDED: PathState.LOOKING,
        PathEvent.WITHDRAWN: PathState.LOOKING,
    },
    PathState.SUSPECT: {
        PathEvent.PONG: PathState.DIRECT,
        PathEvent.GIVEN_UP: PathState.LOOKING,
        PathEvent.TRUST_ENDED: PathState.LOOKING,
        PathEvent.WITHDRAWN: PathState.LOOKING,
    },
}
"""The next state, by state and event."""

TRUSTED: Final = (PathState.DIRECT, PathState.DOUBT, PathState.SUSPECT)
"""States in which traffic goes by the direct path.

A tuple: it finds a member by identity, a set by an enum's slow hash.
"""
