"""Saving of what a session learns, its NetMap above all, in the state file.

The disk is written in a thread, so a slow one delays no packet. A large NetMap is encoded there too, when it
is written, however often it has changed since the last write.
"""

from collections.abc import Callable
from typing import Unpack

import msgspec
import structlog
import trio

from coderd.coordination.saved_netmap import decode_netmap, encode_netmap
from coderd.daemon.identity import Identity
from coderd.daemon.state import NodeState, StateChanges, StateStore
from coderd.model.errors import UserError
from coderd.model.netmap import NetMap

SMALL_MAP = 256
"""Nodes in the largest NetMap that is encoded on arrival; a larger one is encoded when the state is written.
"""

log = structlog.get_logger(__name__)


class StateSaver:
    """Changes of the saved state, which ``run`` writes to disk.

    Args:
        store: the state file.
        encode: encodes a NetMap for it.
    """

    def __init__(self, store: StateStore, encode: Callable[[NetMap], bytes] = encode_netmap) -> None:
        self._store = store
        self._encode = encode
        self._unsaved_map: NetMap | None = None
        """Large NetMap newer than the state's."""
        self._is_unsaved = trio.Event()

    @property
    def current(self) -> NodeState:
        """The state as it is in memory, saved or not."""
        return self._store.current

    def load_netmap(self, identity: Identity) -> NetMap | None:
        """Returns the saved NetMap; None if it is missing, damaged, or of another server or kind of node."""
        netmap = decode_netmap(bytes(self._store.current.netmap), identity.url)
        if netmap is not None and netmap.self_node.kind is not identity.kind:
            log.warning("saved map of another kind refused", kind=netmap.self_node.kind.value)
            return None
        return netmap

    def note(self, **changes: Unpack[StateChanges]) -> None:
        """Changes fields of the state in memory, and wakes ``run`` if that leaves anything to save."""
        if self._store.note(**changes):
            self._is_unsaved.set()

    def note_netmap(self, netmap: NetMap) -> None:
        """Takes the newest NetMap, to be saved."""
        if len(netmap.peers) + len(netmap.absent) <= SMALL_MAP:
            self._unsaved_map = None
            self.note(netmap=msgspec.Raw(self._encode(netmap)))
        else:
            self._unsaved_map = netmap
            self._is_unsaved.set()

    async def run(self) -> None:
        """Saves changes until cancelled.

        A write that fails is logged, and tried again at the next change.
        """
        while True:
            await self._is_unsaved.wait()
            self._is_unsaved = trio.Event()
            if (netmap := self._unsaved_map) is not None:
                self._unsaved_map = None
                data = await trio.to_thread.run_sync(self._encode, netmap)
                self._store.note(netmap=msgspec.Raw(data))
            try:
                await trio.to_thread.run_sync(self._store.save_newest)
            except UserError as error:
                log.warning("the state cannot be saved", why=error.message)
