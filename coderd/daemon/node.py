"""One node: which identity is at work, and the session that it runs.

A workspace brings its identity along (``access_url`` and ``token``) and ends when the server refuses it; a user's machine
gets one by ``coderctl up`` and goes back to waiting when it is refused, saying why in ``coderctl status``.

A change of identity (``up``, ``down``, ``logout``) is one step that nothing cuts in half: the session ends wholly, the
state changes, the session that the new state calls for begins. Changes take turns.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Unpack

import structlog
import trio

from coderd.config.node import NodeConfig
from coderd.coordination.server_state import WRONG_KIND
from coderd.daemon.joining import exchange, is_join_key, workspace_token
from coderd.daemon.kind import check_token
from coderd.daemon.session import Identity, Session
from coderd.daemon.state import NodeState, StateChanges, StateStore
from coderd.engine.io.tunnel import INTERFACE_GONE
from coderd.metrics import Counters
from coderd.model.errors import UserError, first_user_error
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NodeKind
from coderd.model.ports import PortSet

log = structlog.get_logger()


class Node:
    """Which identity is at work, if any. Owns the session; the control socket's verbs ask it for changes.

    Args:
        config: the node's options.
        store: what is remembered.
        interface: the device's name.
        open_session: makes the session of an identity, for ``run`` to run.
    """

    def __init__(
        self,
        config: NodeConfig,
        store: StateStore,
        interface: str,
        open_session: Callable[[Identity], Session],
    ) -> None:
        self.config = config
        self.store = store
        self.interface = interface
        self.session: Session | None = None
        self.error: UserError | None = None
        """Why the last session ended, until the next one begins."""
        self.counters = Counters()
        """What outlives a session: the control socket's refusals."""
        self._open_session = open_session
        self._begun = trio.Event()
        self._turn = trio.Lock()

    @property
    def is_unattended(self) -> bool:
        """Whether the identity came with the command line, so that ``up`` and ``logout`` do not apply."""
        return self.config.token is not None

    def identity(self) -> Identity | None:
        """Whom to be now: the command line's identity, else the enrolled one unless it is down."""
        state = self.store.current
        if self.config.token is not None and self.config.access_url is not None:
            token: str | None = self.config.token
            if is_join_key(token):
                token = workspace_token(state, self.config.token)
            kind = NodeKind.WORKSPACE
            return Identity(self.config.access_url, token, state.private_key(), kind) if token else None
        if state.device_token and state.is_up:
            return Identity(state.url, state.device_token, state.private_key(), NodeKind.DEVICE)
        return None

    async def run(self) -> None:
        """Runs sessions for ever. Raises UserError when an unattended identity is refused, or the interface is deleted."""
        try:
            await self._exchange_join_key()
            if self.session is None:
                self._begin_at_start()
            while True:
                await self._begun.wait()
                self._begun = trio.Event()
                if self.session is not None:
                    await self._run_session(self.session)
        finally:
            if self.session is not None:
                self.session.close()

    async def _exchange_join_key(self) -> None:
        """Makes of a join key, if one was given and this has not been done, a workspace's token."""
        url, key = self.config.access_url, self.config.token
        if key is not None:
            check_token(key, NodeKind.WORKSPACE)
        if url is not None and key is not None and is_join_key(key) and self.identity() is None:
            await exchange(url, key, self.store)

    async def change(self, **changes: Unpack[StateChanges]) -> Session | None:
        """Ends the session, changes fields of the state, begins the session that the state now calls for.

        Raises UserError where no session can be opened.
        """
        return await self._between_sessions(partial(self.store.update, **changes))

    def accept_inbound(self, ports: PortSet) -> None:
        """From now on peers may connect to these ports of this device; connections that they may not have any more end."""
        self.store.update(accept_inbound=str(ports))
        if self.session is not None:
            self.session.accept_inbound()

    async def forget(self) -> NodeState:
        """Ends the session and forgets enrolment, map and key: whoever signs in next is somebody else.

        Returns: what was known, for telling the server.
        """
        known = self.store.current
        await self._between_sessions(lambda: self.store.save(NodeState(node_key=new_node_key())))
        return known

    async def settled(self) -> None:
        """Waits until no change is under way."""
        async with self._turn:
            pass

    async def leave(self) -> None:
        """Says goodbye to the server, within a second."""
        if self.session is not None:
            await self.session.leave()

    async def _between_sessions(self, change: Callable[[], None]) -> Session | None:
        """Once its turn has come this is not cancelled: it takes a second or two at most."""
        async with self._turn:
            with trio.CancelScope(shield=True):
                await self._end_session()
            change()
            return self._begin()

    def _begin_at_start(self) -> None:
        """A device whose saved identity is no device's waits for its person, as one that is refused does."""
        try:
            self._begin()
        except UserError as error:
            if error.code != WRONG_KIND:
                raise
            self._handle_refused(error)

    def _begin(self) -> Session | None:
        self.error = None
        identity = self.identity()
        try:
            if identity is not None:
                self._check_kind(identity)
            self.session = self._open_session(identity) if identity is not None else None
        except UserError as error:
            self.error = error
            raise
        self._begun.set()
        return self.session

    def _check_kind(self, identity: Identity) -> None:
        """Raises UserError where a token is another kind of node's than this machine is."""
        check_token(identity.token, identity.kind)
        if (before := self.store.current.node_kind()) not in (None, identity.kind):
            log.warning(
                "this machine becomes another kind of node", was=before.value, now=identity.kind.value
            )
        self.store.note(kind=identity.kind.value)

    async def _end_session(self) -> None:
        if (session := self.session) is None:
            return
        await session.leave()
        session.end()
        await session.over.wait()
        self.session = None

    async def _run_session(self, session: Session) -> None:
        try:
            await session.run()
        except* UserError as group:
            self._handle_refused(first_user_error(group))
        finally:
            self.session = None

    def _handle_refused(self, error: UserError) -> None:
        log.error("session ended", error=error.message)
        if self.is_unattended or error.code == INTERFACE_GONE:
            raise error
        self.error = error
        self.store.update(is_up=False)


def new_node_key() -> str:
    """A fresh node key as node.json keeps it."""
    return NodePrivate.generate(os.urandom).secret_text()
