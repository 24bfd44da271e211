"""Decides whether this machine is a device (``coderctl up``) or a workspace (``coderd run``). Pure.

The command decides, not the server. A device serves no peers, and refuses what would make it a workspace (a
token, a welcome, a saved map): otherwise a malicious server could reach the services on the device's
loopback.
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
    """Returns the kind of node that a token's prefix stands for; None for a token of no node."""
    return next((kind for prefix, kind in _KINDS.items() if token.startswith(prefix.value)), None)


def check_token(token: str, kind: NodeKind) -> None:
    """Checks that a token is not of another kind of node than this machine; one of no node passes.

    Raises:
        UserError: the token is of another kind.
    """
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
