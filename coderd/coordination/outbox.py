"""What a node still has to tell its server. Pure."""

from coderd.coordination.entries import update_message
from coderd.coordination.message import Message, Peers, Ready
from coderd.coordination.reporter import NOTHING_NEW, Reports
from coderd.model.reachability import NodeUpdate


class Outbox:
    """Messages that a node owes: where it is reachable, reports of paths, and confirmations of peers.

    Only the newest reachability is kept, so that a slow link costs no memory; it outlives a connection, and
    the others do not.

    Args:
        generation: of the node's process.
    """

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._update: NodeUpdate | None = None
        self._is_update_owed = False
        self._reports = NOTHING_NEW
        self._confirmations: list[Ready] = []

    def update(self, update: NodeUpdate) -> bool:
        """Takes where the node is reachable; returns whether that is news."""
        if update == self._update:
            return False
        self._update = update
        self._is_update_owed = True
        return True

    def report(self, reports: Reports) -> None:
        """Adds reports of paths, which leave with the next update."""
        self._reports = self._reports.then(reports)
        self._is_update_owed = True

    def confirm(self, peers: Peers) -> bool:
        """Adds the confirmation of the peers that a message lists; returns whether it lists any."""
        if peers.upsert:
            self._confirmations.append(Ready([entry.id for entry in peers.upsert]))
        return bool(peers.upsert)

    def handle_joined(self) -> None:
        """Begins a new connection: reachability is owed again, and nothing else."""
        self._confirmations.clear()
        self._reports = NOTHING_NEW
        self._is_update_owed = self._update is not None

    def take(self) -> Message | None:
        """Returns the next message to send, None if there is none."""
        if self._is_update_owed and self._update is not None:
            self._is_update_owed = False
            reports, self._reports = self._reports, NOTHING_NEW
            return update_message(self._update, self._generation, reports)
        return self._confirmations.pop(0) if self._confirmations else None
