"""A world whose server keeps its identities in the production store: users, shares, tokens, and what a change ends."""

from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TypeVar, cast

from coderd.coordination.message import Refusal, ServerMessage, encode_message
from coderd.coordination.registry import DELETED
from coderd.derp.io.server import RelayServer
from coderd.identity.effects import Change
from coderd.identity.io.store import Store
from coderd.identity.people import IdentityError, User
from coderd.identity.people import Node as Identity
from coderd.identity.policy import Terms
from coderd.identity.shares import Wish
from coderd.model.keys import NodePrivate, NodePublic
from coderd.server.effects import apply_effects
from tests.sim.nat import Kind
from tests.sim.world.node import Node
from tests.sim.world.stream import Stream
from tests.sim.world.world import World

T = TypeVar("T")


class Office(World):
    """A world with ``store``, whose changes reach nodes as ``server.Directory`` has them do.

    Args:
        directory: for the database, which is gone with it.
        terms: how long what is let in may stay.
        seed: decides keys, ids, tokens, ports.
        rtt: seconds from any public place to any other and back.
    """

    def __init__(
        self, directory: Path, *, terms: Terms | None = None, seed: int = 1, rtt: float = 0.05
    ) -> None:
        super().__init__(rtt=rtt, seed=seed)
        path = directory / "identity.db"
        path.write_bytes(_empty_database())
        self.store = Store(path, rng=self.rng.randbytes, clock=lambda: self.unix, terms=terms)
        self.store.users.create_first_owner("admin", lambda token: None)
        self.said: dict[str, list[str]] = {}
        """Everything that the server has said, as on the wire, by the hearer's name."""

    def close(self) -> None:
        """Closes the database."""
        self.store.close()

    # People and machines

    def add_user(self, name: str) -> User:
        """Creates a user."""
        return self.change(self.store.users.create(name)).user

    def add_workspace(self, owner: User, name: str = "dev", *, place: Kind | None = None) -> Node:
        """Creates a workspace and starts its daemon."""
        issued = self.change(self.store.nodes.create_workspace(owner, name))
        return self._start(issued.node, issued.token, self._new_key(), place)

    def add_device(self, owner: User, name: str = "laptop", *, place: Kind | None = None) -> Node:
        """Enrols a device and starts its daemon."""
        key = self._new_key()
        issued = self.change(self.store.nodes.enrol_device(owner, name, key.public()))
        return self._start(issued.node, issued.token, key, place)

    def start_copy(self, node: Node, key: NodePrivate | None = None) -> Node:
        """Starts another machine with the token of a node, and a key of its own if none is given."""
        return self._start(node.identity, node.token, key or self._new_key(), None)

    def share(self, owner: User, workspace: str, guest: User, wish: Wish = Wish()) -> None:  # noqa: B008, it is frozen
        """Offers a workspace to a user, who accepts."""
        self.change(self.store.shares.offer(owner, workspace, guest.name, wish))
        self.change(self.store.shares.accept(guest, (owner.name, workspace)))

    def _new_key(self) -> NodePrivate:
        return NodePrivate.generate(self.rng.randbytes)

    def _start(self, identity: Identity, token: str, key: NodePrivate, place: Kind | None) -> Node:
        node = self.add_node(identity, place, Random(self.rng.randbytes(8)), key=key, token=token)
        node.start()
        return node

    # Changes

    def change(self, change: Change[T]) -> T:
        """Applies what a change of the store ends, at once; sweeps when the next thing expires."""
        apply_effects(change.effects, self._registry, cast(RelayServer, self))
        self._sweep()
        return change.result

    def _sweep(self) -> None:
        swept = self.store.expiry.sweep()
        apply_effects(swept.effects, self._registry, cast(RelayServer, self))
        if swept.result is not None:
            self.after(max(0.0, swept.result - self.unix), self._sweep)

    def close_client(self, key: NodePublic) -> None:
        """Closes a key's links to the server's relay, as ``RelayServer.close_client`` does."""
        for node in self.nodes:
            if node.public == key and node.process is not None:
                for stream in node.process.relays.values():
                    if stream.place is self.server:
                        stream.peer_sees_it = False
                        self.after(self.rtt / 2, stream.handle_reset)

    # The server

    def admit(self, node: Node) -> tuple[Identity, list[Identity]] | Refusal:
        """Lets a node in by its token, and makes the key that it has proven its own."""
        try:
            record = self.store.tokens.find_node_record(node.token)
        except IdentityError as error:
            return Refusal(error.code, str(error))
        if record is None:
            return DELETED
        (answer,) = self.change(self.store.nodes.claim_keys([(record.node, node.public)]))
        if isinstance(answer, IdentityError):
            return Refusal(answer.code, str(answer))
        return record.node, record.partners

    def lets_in(self, stream: Stream) -> bool:
        """Returns whether the other end serves who dials: the relay asks the store for each key."""
        return stream is stream.node.running.coordination or self.is_admitted(stream.node)

    def is_admitted(self, node: Node) -> bool:
        """Returns whether relays serve a node's key."""
        return self.store.nodes.admit(node.public) is not None

    def note_said(self, node: Node, message: ServerMessage) -> None:
        """Keeps a message as it is on the wire."""
        self.said.setdefault(node.identity.full_name, []).append(encode_message(message))


@cache
def _empty_database() -> bytes:
    """Returns the file of a database without a user: migrating one takes as long as a virtual hour."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "identity.db"
        Store(path).close()
        return path.read_bytes()
