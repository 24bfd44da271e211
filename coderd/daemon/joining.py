"""A machine that was given a join key: exchanges it once for a workspace's token, which it keeps."""

import hashlib
import os
import socket

import structlog
import trio

from coderd.api.io.client import join_workspace
from coderd.daemon.kind import check_token
from coderd.daemon.state import NodeState, StateStore
from coderd.identity.tokens import TokenKind
from coderd.model.backoff import Backoff
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind

JOIN_KEY = TokenKind.JOIN.value
LONGEST_WAIT = 10.0

log = structlog.get_logger()


def is_join_key(token: str | None) -> bool:
    """Whether a token is to be exchanged first."""
    return token is not None and token.startswith(JOIN_KEY)


def workspace_token(state: NodeState, key: str) -> str | None:
    """The token that this very key was exchanged for, None if it was not yet."""
    return state.workspace_token if state.workspace_token and state.joined_with == _mark(key) else None


async def exchange(url: str, key: str, store: StateStore) -> None:
    """Gets and keeps a workspace's token, trying for ever while the server cannot be reached.

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
    """What tells one key from another without being one."""
    return hashlib.sha256(key.encode()).hexdigest()
