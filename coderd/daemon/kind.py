"""Whether this machine is a device (after ``coderctl up``) or a workspace (``coderd run``). Pure.

The server is never asked. A device serves nobody, and what would make it a workspace (a token, a welcome, a saved map) is
refused: else whoever has the server would have the device's loopback.
"""

from coderd.coordination.server_state import WRONG_KIND
from coderd.identity.tokens import TokenKind
from coderd.model.errors import Exit, UserError
from coderd.model.netmap import NodeKind

_KINDS = {
    TokenKind.DEVICE: NodeKind.DEVICE,
    TokenKind.WORKSPACE: NodeKind.WORKSPACE,
    TokenKind.JOIN: NodeKind.WORKSPACE,
}


def kind_of(token: str) -> NodeKind | None:
    """What a token makes of a machine, by its prefix; None for a token that is none of a node."""
    return next((kind for prefix, kind in _KINDS.items() if token.startswith(prefix.value)), None)


def check_token(token: str, kind: NodeKind) -> None:
    """Raises UserError where a token is one of another kind of node than this machine is."""
    if (other := kind_of(token)) is None or other is kind:
        return
    if kind is NodeKind.WORKSPACE:
        raise UserError(
            "the token is a device's, and coderd run takes a workspace's",
            exit_code=Exit.REFUSED,
            hint="A person's own machine joins by coderctl up, without --token-file.",
            code=WRONG_KIND,
        )
    raise UserError(
        "the server gave this device a workspace's token, which would open this machine to others",
        exit_code=Exit.REFUSED,
        hint="Do not use that server. A workspace joins by coderd run --token-file.",
        code=WRONG_KIND,
    )
