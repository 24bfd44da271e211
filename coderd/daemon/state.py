"""``node.json``: what a node must not forget - its key, its credentials, the last NetMap.

Mode 0600 in a directory of mode 0700 that one daemon locks (``PrivateDirectory``); replaced as a whole. The disco key
is not here: it is new at every start and lives in memory only. A file that cannot be read means refusing to start: a
node that silently made itself a new key would be somebody else.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self, TypedDict, Unpack

import msgspec

from coderd.coordination.saved_netmap import MAX_SAVED
from coderd.daemon.kind import kind_of
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NodeKind
from coderd.model.ports import PortSet, parse_ports
from coderd.process.private_directory import PrivateDirectory
from coderd.wireguard.tai64n import parse_mark

STATE_FILE = "node.json"
MAX_STATE_BYTES = 2 * MAX_SAVED
"""Bytes of the state file that are read at most: more than a daemon ever writes."""


class NodeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of ``node.json``. Keys and tokens never show in a repr."""

    node_key: str
    """``privkey:<64 hex>``."""
    url: str = ""
    """The server that this machine enrolled with as a device, and the pin of its certificate; empty when logged out or unattended."""
    device_id: str = ""
    device_token: str = ""
    is_up: bool = True
    """False after ``coderctl down``, until ``up``."""
    accept_inbound: str = "none"
    """The ports of this device that its peers may connect to, as ``coderctl up --accept-inbound`` said it last."""
    workspace_token: str = ""
    """What a join key was exchanged for."""
    kind: str = ""
    """What the last identity at work was by its person's doing: ``device`` or ``workspace``; empty in files of earlier releases."""
    joined_with: str = ""
    """The SHA-256 of that key."""
    authorised_at: float = 0.0
    """Wall-clock seconds when the server was heard last; 0 = nobody knows."""
    resume_token: str = ""
    tai64n_mark: str = ""
    """Hex; no handshake of ours has carried a later timestamp than this."""
    netmap: msgspec.Raw = msgspec.Raw(b"null")
    """The last NetMap, as coordination encodes it."""

    def private_key(self) -> NodePrivate:
        """The node key. Raises ValueError if the text is damaged."""
        return NodePrivate.parse(self.node_key)

    def node_kind(self) -> NodeKind | None:
        """What this machine is, in files of earlier releases by the prefix of the token kept there; None: nothing yet."""
        if self.kind:
            return NodeKind(self.kind)
        return kind_of(self.device_token or self.workspace_token)

    def accepted_ports(self) -> PortSet:
        """The ports that ``accept_inbound`` names. Raises ValueError if the text is damaged."""
        return parse_ports(self.accept_inbound)

    def timestamp_floor(self) -> bytes | None:
        """Every handshake's timestamp must be later; None before the first. Raises ValueError if the text is damaged."""
        return parse_mark(self.tai64n_mark) if self.tai64n_mark else None

    def __repr__(self) -> str:
        return f"<NodeState url={self.url!r} device={self.device_id!r} secrets redacted>"


class StateChanges(TypedDict, total=False):
    """Fields of ``NodeState`` that are to change."""

    url: str
    device_id: str
    device_token: str
    is_up: bool
    accept_inbound: str
    workspace_token: str
    kind: str
    joined_with: str
    authorised_at: float
    resume_token: str
    tai64n_mark: str
    netmap: msgspec.Raw


class StateStore:
    """The only reader and writer of a state directory, for as long as it is open.

    Raises UserError where the directory cannot be made, is not this user's alone, is locked by another daemon, or holds a damaged file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = PrivateDirectory(
            directory, user="coderd daemon", hint="its own --state-dir, --socket and --interface"
        )
        self._writing = threading.Lock()
        self._saved: NodeState | None = None
        try:
            self.current = self._load()
            self.save_newest()
        except BaseException:
            self._directory.close()
            raise

    def save(self, state: NodeState) -> None:
        """Makes this the state; after it returns it survives a crash. Raises UserError where the disk refuses."""
        self.current = state
        self.save_newest()

    def update(self, **changes: Unpack[StateChanges]) -> None:
        """Saves the current state with some fields changed, if that changes anything."""
        self.note(**changes)
        self.save_newest()

    def note(self, **changes: Unpack[StateChanges]) -> bool:
        """Changes fields in memory only, until the next save; returns whether there is now anything to save."""
        state: NodeState = msgspec.structs.replace(self.current, **changes)
        if state != self.current:
            self.current = state
        return self.current is not self._saved

    def save_newest(self) -> None:
        """Writes what is not written yet. May be called in a thread: a slow disk then stalls nobody, and newest wins."""
        with self._writing:
            state = self.current
            if state is not self._saved:
                self._directory.write(STATE_FILE, msgspec.json.encode(state))
                self._saved = state

    def close(self) -> None:
        """Writes what was only noted, as far as the disk takes it, and gives the directory up."""
        with suppress(UserError):
            self.save_newest()
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> NodeState:
        try:
            data = self._directory.read(STATE_FILE, MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            return NodeState(node_key=NodePrivate.generate(os.urandom).secret_text())
        try:
            state = msgspec.json.decode(data, type=NodeState)
            state.private_key()
            state.timestamp_floor()
            state.node_kind()
            state.accepted_ports()
        except ValueError:
            raise UserError(
                f"{self._directory.path(STATE_FILE)} is damaged",
                hint="restore it from a backup, or remove it to enrol this machine as a new one",
                code="state_damaged",
            ) from None
        self._saved = state
        return state
