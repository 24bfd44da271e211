"""Admission of nodes: which node a bearer token is of, and whether the connection holds the node's key.

What was read of the store may be old by the time that the registry knows the node and is told of changes.
So each step compares ``Registry.n_changes`` with the count at the first one, and reads again after a change.
"""

import time
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from coderd.coordination.io.node_link import receive
from coderd.coordination.message import VERSION, Challenge, Hello, Refusal, encode_message
from coderd.coordination.proof import NONCE_SIZE, is_proof
from coderd.coordination.registry import DELETED, Registry
from coderd.coordination.resume import is_resume_token
from coderd.coordination.shown_entry import refuse_claim
from coderd.coordination.viewer import NodeFacts
from coderd.http.websocket import TextSocket
from coderd.identity.people import IdentityError, Node, NotFound
from coderd.identity.tokens import hash_token
from coderd.model import RandomBytes, limits
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPublic, NodePrivate, NodePublic

HELLO_TIMEOUT: Final = limits.HELLO_TIMEOUT


class NodeRecord(Protocol):
    """All that the identities know of a node that joins, as of one moment."""

    @property
    def node(self) -> Node:
        """The identity that joins."""

    @property
    def node_key(self) -> NodePublic | None:
        """The key that it has proven last; None before the first."""

    @property
    def partners(self) -> list[Node]:
        """Every node that it may meet."""


class Directory(Protocol):
    """What coordination asks of the identities. Its answers may take a thread."""

    async def find_node_record(self, token: str, source: str = "") -> NodeRecord | None:
        """Returns the record of the node with this token, None for an unknown token.

        Raises:
            IdentityError: the address has tried too many unknown tokens, or the device may not join now.
        """

    async def claim_node_key(self, node: Node, node_key: NodePublic) -> None:
        """Makes a proven key the node's own.

        Raises:
            IdentityError: the key is another node's, or not the approved one.
        """

    async def partners(self, node: Node) -> list[Node]:
        """Returns every node that this one may meet."""


class Refused(Exception):
    """End of a connection that the node has caused.

    Args:
        refusal: the last message to send.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Applicant:
    """Node that a connection's token names, and that has yet to prove its key.

    Attributes:
        record: what the store said of it.
        token: as the connection bears it.
        n_changes: ``Registry.n_changes`` before the store was asked.
    """

    record: NodeRecord
    token: str = field(repr=False)
    n_changes: int

    @property
    def node(self) -> Node:
        """The identity that the token names."""
        return self.record.node


class Admission:
    """Checks of a node before the registry knows it.

    Args:
        directory: the identities.
        private: the server's coordination key, which the node's proof is for.
        rng: randomness for challenges.
        registry: knows whether an identity has changed meanwhile.
    """

    def __init__(
        self, directory: Directory, private: NodePrivate, rng: RandomBytes, registry: Registry
    ) -> None:
        self._directory = directory
        self._private = private
        self._public = private.public()
        self._rng = rng
        self._registry = registry

    async def find(self, websocket: TextSocket) -> Applicant | None:
        """Returns the node of a connection's bearer token, None for an unknown token.

        Raises:
            IdentityError: the address has tried too many unknown tokens, or the device may not join now.
        """
        token, n_changes = _bearer(websocket), self._registry.n_changes
        record = await self._directory.find_node_record(token, websocket.source)
        return Applicant(record, token, n_changes) if record is not None else None

    async def admit(self, websocket: TextSocket, applicant: Applicant) -> tuple[NodeFacts, bool]:
        """Opens the WebSocket, and takes the node's hello with the proof of its key.

        Returns:
            What the hello proves and says, and whether it shows a resume token.

        Raises:
            MalformedPacket: the first message is no hello.
            Refused: the version, the proof or a claim is not accepted.
            trio.TooSlowError: no hello within ``HELLO_TIMEOUT`` seconds.
        """
        node, nonce = applicant.node, self._rng(NONCE_SIZE)
        with trio.fail_after(HELLO_TIMEOUT):
            await websocket.accept(encode_message(Challenge(self._public.text, nonce.hex())))
            hello = await receive(websocket)
        if not isinstance(hello, Hello):
            raise MalformedPacket("a node begins with a hello")
        if hello.version != VERSION:
            raise Refused(Refusal("version", f"this server speaks version {VERSION} of the protocol"))
        facts = _facts(hello)
        if not is_proof(hello.proof, facts.node_key, self._private, nonce, hash_token(applicant.token)):
            raise Refused(Refusal("bad_proof", "the node did not prove that it holds its node key"))
        if (refusal := refuse_claim(node, hello.allowed_ips)) is not None:
            raise Refused(refusal)
        if facts.node_key != applicant.record.node_key or self.is_outdated(applicant):
            await self._claim(node, facts.node_key)
        resumed = is_resume_token(
            hello.resume_token, self._private, node.node_id, facts.node_key, time.time()
        )
        return facts, resumed

    def is_outdated(self, applicant: Applicant) -> bool:
        """Returns whether any identity has changed since the store was asked for this one."""
        return applicant.n_changes != self._registry.n_changes

    async def partners(self, applicant: Applicant) -> list[Node]:
        """Returns every node that this one may meet, as of now."""
        if self.is_outdated(applicant):
            return await self._directory.partners(applicant.node)
        return applicant.record.partners

    async def look_again(self, websocket: TextSocket, applicant: Applicant) -> None:
        """Updates a node that has just been registered, if some identity has changed before it was.

        Raises:
            Refused: the node may not be here any more.
        """
        if not self.is_outdated(applicant):
            return
        try:
            fresh = await self._directory.find_node_record(applicant.token, websocket.source)
        except IdentityError as error:
            raise Refused(Refusal(error.code, str(error))) from None
        if fresh is None:
            raise Refused(DELETED)
        if fresh.node != applicant.node:
            self._registry.amend(fresh.node)

    async def _claim(self, node: Node, node_key: NodePublic) -> None:
        try:
            await self._directory.claim_node_key(node, node_key)
        except IdentityError as error:
            code = "unauthorized" if isinstance(error, NotFound) else error.code
            raise Refused(Refusal(code, str(error))) from None


def _bearer(websocket: TextSocket) -> str:
    """Returns the bearer token, empty without one."""
    scheme, _, token = websocket.field("authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _facts(hello: Hello) -> NodeFacts:
    try:
        node_key, disco_key = NodePublic.parse(hello.node_key), DiscoPublic.parse(hello.disco_key)
    except ValueError as error:
        raise MalformedPacket(str(error)) from None
    return NodeFacts(node_key, disco_key, hello.generation, tuple(hello.capabilities))
