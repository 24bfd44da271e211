"""Exchanges a join key once for a workspace's token, and keeps the token in the state."""

import hashlib
import os
import socket

import structlog
import trio

from coderd.api.io.machine import join_workspace
from coderd.daemon.kind import check_token
from coderd.daemon.state import NodeState, StateStore
from coderd.identity.tokens import TokenKind
from coderd.model.backoff import Backoff
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind

JOIN_KEY = TokenKind.JOIN.value
"""Prefix of join keys."""
LONGEST_WAIT = 10.0
"""Seconds between two attempts to exchange a join key, at most."""

log = structlog.get_logger()


def is_join_key(token: str | None) -> bool:
    """Returns whether a token is a join key, which is exchanged for a workspace's token before use."""
    return token is not None and token.startswith(JOIN_KEY)


def workspace_token(state: NodeState, key: str) -> str | None:
    """Returns the saved token if it was exchanged for this join key, else None."""
    return state.workspace_token if state.workspace_token and state.joined_with == _mark(key) else None


async def exchange(url: str, key: str, store: StateStore) -> None:
    """Exchanges a join key for a workspace's token and saves the token, retrying until the server answers.

    Retries while the server cannot be reached, or answers that there were too many attempts.

    Raises:
        UserError: the server refuses the key, or gives another kind of token for it.
    """
    backoff = Backoff(os.urandom, longest=LONGEST_WAIT)
    while True:
        try:
            made = await join_workspace(url, key, name=socket.gethostname())
            break
        except UserError as error:
            if error.exit_code is not Exit.UNREACHABLE and error.code != "too_many_attempts":
                raise
            log.info("join key waits", why=error.message)
        await trio.sleep(backoff.next_delay())
    check_token(made.token, NodeKind.WORKSPACE)
    store.update(workspace_token=made.token, joined_with=_mark(key))
    log.info("joined with a key", node_id=str(made.id))


def _mark(key: str) -> str:
    """Returns the SHA-256 of a join key in hex, which identifies the key without revealing it."""
    return hashlib.sha256(key.encode()).hexdigest()
