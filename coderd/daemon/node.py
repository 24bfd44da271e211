"""Node of one machine: decides which identity is active, and runs its session.

A workspace's identity comes from the command line (``access_url`` and ``token``), and the process ends when
the server refuses it. A device's identity comes from ``coderctl up``; when the server refuses it, the node
waits for the next ``up``, and ``coderctl status`` shows the reason.

A change of identity (``up``, ``down``, ``logout``) is not cancelled halfway: the session ends completely, the
state changes, and the session of the new state begins. Changes run one after another.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Unpack

import structlog
import trio

from coderd.config.node import NodeConfig
from coderd.coordination.server_state import WRONG_KIND
from coderd.daemon.identity import Identity
from coderd.daemon.joining import exchange, is_join_key, workspace_token
from coderd.daemon.kind import check_token
from coderd.daemon.session import Session
from coderd.daemon.state import NodeState, StateChanges, StateStore
from coderd.engine.io.tunnel import INTERFACE_GONE
from coderd.metrics import Counters
from coderd.model.errors import UserError, first_user_error
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NodeKind
from coderd.model.ports import PortSet

log = structlog.get_logger()


class Node:
    """Owner of the session, which it ends and replaces when the control socket changes the identity.

    Args:
        config: the node's options.
        store: the state that outlives the process.
        interface: the name of the TUN device.
        open_session: makes an identity's session, which ``run`` then runs.
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
        """Error that ended the last session or kept it from opening; None once the next one opens."""
        self.counters = Counters()
        """Counters that outlive a session: of the control socket, and of the event loop's stalls."""
        self._open_session = open_session
        self._begun = trio.Event()
        self._turn = trio.Lock()

    @property
    def is_unattended(self) -> bool:
        """Whether the command line gave the token, so that ``up``, ``down`` and ``logout`` are refused."""
        return self.config.token is not None

    def identity(self) -> Identity | None:
        """Returns the identity to use now, or None.

        The command line's comes first, then the enrolled one unless it is down. A join key that has not been
        exchanged yet gives None.
        """
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
        """Runs one session after another until cancelled; exchanges a join key first.

        Raises:
            UserError: a token is of the wrong kind of node, the server refuses an unattended identity, or the
                interface is deleted.
        """
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
        """Exchanges the command line's join key, unless it has none or the exchange was made before.

        Raises:
            UserError: the command line's token is a device's, or the server refuses the key.
        """
        url, key = self.config.access_url, self.config.token
        if key is not None:
            check_token(key, NodeKind.WORKSPACE)
        if url is not None and key is not None and is_join_key(key) and self.identity() is None:
            await exchange(url, key, self.store)

    async def change(self, **changes: Unpack[StateChanges]) -> Session | None:
        """Ends the session, changes fields of the state, and begins the session that the new state calls for.

        Returns:
            The new session, or None where the new state calls for none.

        Raises:
            UserError: the state cannot be saved, or the session cannot be opened.
        """
        return await self._between_sessions(partial(self.store.update, **changes))

    def accept_inbound(self, ports: PortSet) -> None:
        """Saves which ports of this device peers may connect to, and applies them to the session.

        Connections that the new ports do not allow end.
        """
        self.store.update(accept_inbound=str(ports))
        if self.session is not None:
            self.session.accept_inbound()

    async def forget(self) -> NodeState:
        """Ends the session and replaces the state by an empty one with a new node key.

        Returns:
            The earlier state, with which the device can be removed from the server.
        """
        known = self.store.current
        await self._between_sessions(lambda: self.store.save(NodeState(node_key=new_node_key())))
        return known

    async def settled(self) -> None:
        """Waits until no change of identity is under way."""
        async with self._turn:
            pass

    async def leave(self) -> None:
        """Tells the server that this node leaves, within a second; does nothing without a session."""
        if self.session is not None:
            await self.session.leave()

    async def _between_sessions(self, change: Callable[[], None]) -> Session | None:
        """Ends the session, calls ``change``, and begins the session that the state then calls for.

        Waits for earlier changes first. The session's end is shielded from cancellation, and nothing after it
        waits.
        """
        async with self._turn:
            with trio.CancelScope(shield=True):
                await self._end_session()
            change()
            return self._begin()

    def _begin_at_start(self) -> None:
        """Opens the first session; handles a token of the wrong kind like one that the server refuses."""
        try:
            self._begin()
        except UserError as error:
            if error.code != WRONG_KIND:
                raise
            self._handle_refused(error)

    def _begin(self) -> Session | None:
        """Opens the session of the current identity, if there is one, for ``run``. Raises UserError."""
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
        """Checks that an identity's token is of its kind of node, and notes that kind in the state.

        Raises:
            UserError: the token is of another kind of node.
        """
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
        """Keeps an error for ``coderctl status`` and takes the device down, or raises the error.

        Raises:
            UserError: the node is unattended, or the interface is gone: the process must end.
        """
        log.error("session ended", error=error.message)
        if self.is_unattended or error.code == INTERFACE_GONE:
            raise error
        self.error = error
        self.store.update(is_up=False)


def new_node_key() -> str:
    """Returns a new random node key as node.json keeps it."""
    return NodePrivate.generate(os.urandom).secret_text()
