"""One node: which identity is at work, and the session that it runs.

A workspace brings its identity along (``access_url`` and ``token``) and ends when the server refuses it; a user's machine
gets one by ``coderctl up`` and goes back to waiting when it is refused, saying why in ``coderctl status``.
"""

import os

import structlog
import trio

from coderd.daemon.config import NodeConfig
from coderd.daemon.session import Identity, Session
from coderd.daemon.state import NodeState, StateStore
from coderd.daemon.tunnel import INTERFACE_GONE
from coderd.metrics import Counters
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate
from coderd.tun.io.device import TunDevice

log = structlog.get_logger()


class Node:
    """Which identity is at work, if any. Owns the session; the control socket's verbs ask it for changes."""

    def __init__(self, config: NodeConfig, store: StateStore, tun: TunDevice) -> None:
        self.config = config
        self.store = store
        self.interface = tun.name
        self.session: Session | None = None
        self.error: UserError | None = None
        """Why the last session ended, until the next one begins."""
        self.counters = Counters()
        """What outlives a session: the control socket's refusals."""
        self._tun = tun
        self._scope: trio.CancelScope | None = None
        self._wanted = trio.Event()
        self._started = trio.Event()

    @property
    def is_unattended(self) -> bool:
        """Whether the identity came with the command line, so that ``up`` and ``logout`` do not apply."""
        return self.config.token is not None

    def identity(self) -> Identity | None:
        """Whom to be now: the command line's identity, else the enrolled one unless it is down."""
        state = self.store.current
        if self.config.token is not None and self.config.access_url is not None:
            return Identity(self.config.access_url, self.config.token, state.private_key())
        if state.device_token and state.is_up:
            return Identity(state.url, state.device_token, state.private_key())
        return None

    async def run(self) -> None:
        """Runs sessions for ever. Raises UserError when an unattended identity is refused, or the interface is deleted."""
        while True:
            identity = self.identity()
            if identity is None:
                await self._wanted.wait()
                self._wanted = trio.Event()
                continue
            self.error = None
            await self._run_session(identity)

    async def restart(self) -> Session | None:
        """Ends the running session, if any, and begins the one that the state now calls for; returns it."""
        await self.leave()
        self._started = trio.Event()
        self._wanted.set()
        if self._scope is not None:
            self._scope.cancel()
        if self.identity() is None:
            return None
        await self._started.wait()
        return self.session

    async def leave(self) -> None:
        """Says goodbye to the server, within a second."""
        if self.session is not None:
            await self.session.leave()

    def forget(self) -> None:
        """Forgets enrolment, map and key: whoever signs in next is somebody else."""
        self.store.save(NodeState(node_key=new_node_key()))

    async def _run_session(self, identity: Identity) -> None:
        with trio.CancelScope() as self._scope:
            self.session = Session(identity, self._tun, self.config, self.store)
            self._started.set()
            try:
                await self.session.run()
            except* UserError as group:
                self._handle_refused(first_user_error(group))
        self.session = None
        self._scope = None

    def _handle_refused(self, error: UserError) -> None:
        log.error("session ended", error=error.message)
        if self.is_unattended or error.code == INTERFACE_GONE:
            raise error
        self.error = error
        self.store.update(is_up=False)


def first_user_error(group: BaseExceptionGroup[UserError]) -> UserError:
    """The first error of a group that a person should read."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    return error


def new_node_key() -> str:
    """A fresh node key as node.json keeps it."""
    return NodePrivate.generate(os.urandom).secret_text()
