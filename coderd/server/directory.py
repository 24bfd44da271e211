"""Identities for coordination, relay and API: calls the store in threads and applies each change's effects.

A change reaches the store first, which everyone asks, then at once the connections that are open.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeVar

import structlog
import trio

from coderd.api.io.routes import ApiError, Caller
from coderd.coordination.registry import Registry
from coderd.derp.io.server import RelayServer
from coderd.identity.attempts import Attempts
from coderd.identity.effects import Change
from coderd.identity.io.store import Store
from coderd.identity.io.tokens import NodeRecord
from coderd.identity.people import (
    BadName,
    BadShare,
    Enrolled,
    IdentityError,
    KeyTaken,
    LastOwner,
    NameTaken,
    Node,
    NotFound,
    NotManaged,
    QuotaReached,
    TokenGone,
    TooManyAttempts,
    TooManyShares,
    TooWide,
)
from coderd.identity.tokens import TokenKind, hash_token
from coderd.identity.visits import Visits
from coderd.metrics import Counters
from coderd.model import limits
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.origins import Origin
from coderd.model.roles import Role
from coderd.server.batcher import Batcher
from coderd.server.effects import apply_effects

MAX_THREADS: Final = limits.MAX_STORE_THREADS
"""Threads that use the store at a time."""

MAX_CLAIMS = 256
"""Node keys that are claimed in one transaction."""

MAX_KNOWN: Final = limits.MAX_KNOWN_TOKENS
"""Valid tokens that are remembered, so that failed attempts from their users' addresses do not lock them out.
"""

T = TypeVar("T")

_STATUSES: dict[type[IdentityError], HTTPStatus] = {
    BadName: HTTPStatus.BAD_REQUEST,
    BadShare: HTTPStatus.BAD_REQUEST,
    NameTaken: HTTPStatus.CONFLICT,
    KeyTaken: HTTPStatus.CONFLICT,
    LastOwner: HTTPStatus.CONFLICT,
    NotFound: HTTPStatus.NOT_FOUND,
    TooManyShares: HTTPStatus.CONFLICT,
    QuotaReached: HTTPStatus.CONFLICT,
    TokenGone: HTTPStatus.UNAUTHORIZED,
    TooWide: HTTPStatus.FORBIDDEN,
    NotManaged: HTTPStatus.FORBIDDEN,
    Enrolled: HTTPStatus.CONFLICT,
    TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
}
_OTHER_ROLES = {
    TokenKind.JOIN: Role.JOIN,
    TokenKind.WORKSPACE: Role.WORKSPACE,
    TokenKind.DEVICE: Role.DEVICE,
}

log = structlog.get_logger(__name__)


class Directory:
    """Identities of one server.

    Args:
        store: the blocking store.
        counters: shared by all parts of the server.
        registry: the registry of connected nodes.
        relay: the embedded relay.
    """

    def __init__(self, store: Store, counters: Counters, registry: Registry, relay: RelayServer) -> None:
        self.store = store
        self.counters = counters
        self._claims = Batcher(self._claim_keys, MAX_CLAIMS)
        self._limiter = trio.CapacityLimiter(MAX_THREADS)
        self._changing = trio.Lock()
        self._attempts = Attempts()
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self.visits = Visits(time.time)
        """Web apps and terminals that are open in browsers."""
        self.registry = registry
        self.relay = relay

    # For coordination and the relay

    async def find_node_record(self, token: str, source: str = "") -> NodeRecord | None:
        """Finds the node that a node token belongs to; None for an unknown token.

        Raises:
            TooManyAttempts: too many unknown tokens came from this address.
        """
        return await self._find(token, source, self.store.tokens.find_node_record)

    async def claim_node_key(self, node: Node, node_key: NodePublic) -> None:
        """Makes a proven key the node's own; closes the relay links of its previous key.

        Raises IdentityError.
        """
        answer = await self._claims.ask((node, node_key))
        if isinstance(answer, IdentityError):
            raise answer

    async def _claim_keys(
        self, claims: list[tuple[Node, NodePublic]]
    ) -> list[NodePublic | IdentityError | None]:
        return await self.change_in_thread(lambda: self.store.nodes.claim_keys(claims))

    async def partners(self, node: Node) -> list[Node]:
        """Returns every node that a node may meet."""
        return await self.in_thread(lambda: self.store.nodes.partners(node))

    async def admit(self, node_key: NodePublic, source: str = "") -> Node | None:
        """Returns the node with this node key; None for an unknown key, which the relay does not serve."""
        return await self.in_thread(lambda: self.store.nodes.admit(node_key))

    # For pages and the API

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        """Finds a workspace by its owner's name and its own; None if there is none."""
        return await self.in_thread(lambda: self.store.nodes.find_named(NodeKind.WORKSPACE, owner, name))

    async def identify(self, token: str, source: str) -> Caller:
        """Returns the caller that a token authenticates; an unknown token's role is NOBODY.

        Raises:
            ApiError: too many unknown tokens came from this address.
        """
        try:
            bearer = await self._find(token, source, self.store.tokens.find)
        except IdentityError as error:
            raise _refusal(error) from None
        if bearer is None:
            return Caller(Role.NOBODY, source=source)
        return Caller(
            _OTHER_ROLES.get(bearer.record.kind, Role(bearer.user.role)),
            bearer.user.user_id,
            bearer.user.name,
            bearer.node.node_id if bearer.node is not None else None,
            bearer.record.scope,
            bearer.record.expires_at,
            source,
            bearer.record.token_id,
            bearer.record.is_sign_in,
        )

    async def ask(self, question: Callable[[], T]) -> T:
        """Calls the store in a thread. Raises ApiError for the store's refusals."""
        try:
            return await self.in_thread(question)
        except IdentityError as error:
            raise _refusal(error) from None

    async def in_thread(self, question: Callable[[], T]) -> T:
        """Calls the store in a thread."""
        return await trio.to_thread.run_sync(question, limiter=self._limiter)

    # Changes

    async def change(self, act: Callable[[], Change[T]]) -> T:
        """Changes the store in a thread and applies the effects. Raises ApiError for the store's refusals.

        See ``change_in_thread``.
        """
        try:
            return await self.change_in_thread(act)
        except IdentityError as error:
            raise _refusal(error) from None

    async def change_in_thread(self, act: Callable[[], Change[T]]) -> T:
        """Changes the store in a thread and at once applies the effects; the only way to change it.

        A cancellation cannot come between the two: the thread is waited for, and applying effects does not
        wait. One change at a time: effects carry nodes as the change left them, so two that were applied in
        the reverse order of their commits would leave a connection with a revoked share. The database writes
        one at a time anyway.

        Raises:
            IdentityError: the store refuses; nothing has changed.
        """
        async with self._changing:
            change = await self.in_thread(act)
            apply_effects(change.effects, self.registry, self.relay)
        return change.result

    # Inside

    async def _find(self, token: str, source: str, ask: Callable[[str], T | None]) -> T | None:
        """Looks a token up, counting unknown ones against their address. Raises TooManyAttempts."""
        origin, token_hash = Origin.of(source), hash_token(token)
        if token_hash not in self._known and not self._attempts.allows(origin, time.monotonic()):
            self.counters["identity.refused.attempts"] += 1
            raise TooManyAttempts("too many unknown tokens came from this address")
        found = await self.in_thread(lambda: ask(token))
        self._known.pop(token_hash, None)
        if found is not None:
            self._known[token_hash] = None
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        else:
            self.counters["identity.refused.unknown_token"] += 1
            if self._attempts.fail(origin, time.monotonic()):
                log.warning("too_many_unknown_tokens", address=origin.network)
        return found


def _refusal(error: IdentityError) -> ApiError:
    return ApiError(_STATUSES.get(type(error), HTTPStatus.BAD_REQUEST), error.code, str(error), error.hint)
