"""Who may meet whom: the one place that answers it.

A tunnel joins a device and a workspace, never two of a kind, and for now only those of one owner.
"""

from coderd.identity.people import Node


def may_tunnel(one: Node, other: Node) -> bool:
    """Whether the server opens a tunnel between two nodes; the order does not matter."""
    return one.kind is not other.kind and one.owner.user_id == other.owner.user_id
