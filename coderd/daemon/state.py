"""State file ``node.json``: what a node must not forget, its key, its credentials and the last NetMap.

The file has mode 0600 in a directory of mode 0700 that one daemon locks (``PrivateDirectory``), and is
replaced as a whole. The disco key is not in it: each start makes a new one, in memory only. Where the file
cannot be read the daemon refuses to start: a node that made itself a new key would be a different node to the
server.
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
"""Name of the state file in the state directory."""
MAX_STATE_BYTES = 2 * MAX_SAVED
"""Bytes of the state file that are accepted at most: more than a daemon writes."""


class NodeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Content of ``node.json``; its repr shows no keys and no tokens."""

    node_key: str
    """Private node key, as ``privkey:<64 hex>``."""
    url: str = ""
    """URL of the server at which this machine is enrolled as a device, with the pin of its certificate.

    Empty when logged out or unattended.
    """
    device_id: str = ""
    device_token: str = ""
    is_up: bool = True
    """False after ``coderctl down``, or after the server has refused the identity, until ``up``."""
    accept_inbound: str = "none"
    """Ports of this device that peers may connect to, as ``coderctl up --accept-inbound`` last named them."""
    workspace_token: str = ""
    """Token that a join key was exchanged for."""
    kind: str = ""
    """Kind of the last active identity, ``device`` or ``workspace``; empty in files of earlier releases."""
    joined_with: str = ""
    """SHA-256, in hex, of the join key that ``workspace_token`` was exchanged for."""
    authorised_at: float = 0.0
    """Wall-clock seconds at which the server was last heard; 0: unknown."""
    resume_token: str = ""
    tai64n_mark: str = ""
    """TAI64N timestamp, in hex, that is later than or equal to that of every handshake this node has sent."""
    netmap: msgspec.Raw = msgspec.Raw(b"null")
    """Last NetMap, as ``coordination.saved_netmap`` encodes it."""

    def private_key(self) -> NodePrivate:
        """Returns the private node key.

        Raises:
            ValueError: the text is damaged.
        """
        return NodePrivate.parse(self.node_key)

    def node_kind(self) -> NodeKind | None:
        """Returns what kind of node this machine was last; None where it has been none yet.

        In files of earlier releases, which lack ``kind``, the prefix of the saved token decides.

        Raises:
            ValueError: the text is damaged.
        """
        if self.kind:
            return NodeKind(self.kind)
        return kind_of(self.device_token or self.workspace_token)

    def accepted_ports(self) -> PortSet:
        """Returns the ports that ``accept_inbound`` names.

        Raises:
            ValueError: the text is damaged.
        """
        return parse_ports(self.accept_inbound)

    def timestamp_floor(self) -> bytes | None:
        """Returns the timestamp that every new handshake's must exceed; None before the first handshake.

        Raises:
            ValueError: the text is damaged.
        """
        return parse_mark(self.tai64n_mark) if self.tai64n_mark else None

    def __repr__(self) -> str:
        return f"<NodeState url={self.url!r} device={self.device_id!r} secrets redacted>"


class StateChanges(TypedDict, total=False):
    """Fields of ``NodeState`` that are to change, with their new values."""

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
    """Reader and writer of a state directory, which it keeps locked for as long as it is open.

    Raises:
        UserError: the directory cannot be made, is not private to this user, is locked by another daemon, or
            holds a damaged file.
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
        """Replaces the state in memory and on disk; once this returns the new state survives a crash.

        Raises:
            UserError: the file cannot be written.
        """
        self.current = state
        self.save_newest()

    def update(self, **changes: Unpack[StateChanges]) -> None:
        """Changes fields of the state, and saves it if anything is unsaved.

        Raises:
            UserError: the file cannot be written.
        """
        self.note(**changes)
        self.save_newest()

    def note(self, **changes: Unpack[StateChanges]) -> bool:
        """Changes fields of the state in memory only, until the next save.

        Returns:
            Whether anything is unsaved now.
        """
        state: NodeState = msgspec.structs.replace(self.current, **changes)
        if state != self.current:
            self.current = state
        return self.current is not self._saved

    def save_newest(self) -> None:
        """Writes the current state to disk, unless it is saved already.

        May be called in a thread, so that a slow disk does not block the loop. Writes run one after another,
        each with the state that is current when it begins.

        Raises:
            UserError: the file cannot be written.
        """
        with self._writing:
            state = self.current
            if state is not self._saved:
                self._directory.write(STATE_FILE, msgspec.json.encode(state))
                self._saved = state

    def close(self) -> None:
        """Saves what is unsaved, as far as the disk allows, and unlocks the directory."""
        with suppress(UserError):
            self.save_newest()
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> NodeState:
        """Returns the saved state, or one with a new node key where there is no file. Raises UserError."""
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
