"""Dials one node of a region: for a relay link, and for measuring latency."""

from typing import Final

import trio

from coderd.derp.dial_plan import DialPlan, Family
from coderd.derp.io.tls import check_certificate, client_context
from coderd.http.dialer import Target, dial_first
from coderd.http.tls_stream import TlsStream

NODE_TIMEOUT: Final = 1.5
"""Seconds for the TCP connection to one node."""
_FAMILIES: Final = {Family.IPV4: trio.socket.AF_INET, Family.IPV6: trio.socket.AF_INET6}


async def dial_node(plan: DialPlan) -> trio.abc.Stream:
    """Connects to a node by TCP, or the environment's proxy, and TLS, and checks the node's certificate.

    Raises: OSError.
    """
    node = plan.node
    if not plan.attempts:
        raise OSError(f"relay {node.name} has no address that can be dialled")
    stream = await dial_first(
        [
            Target(_FAMILIES[attempt.family], attempt.host, attempt.port, not node.is_elsewhere)
            for attempt in plan.attempts
        ],
        host=node.host_name,
        port=plan.attempts[0].port,
        tls=None if plan.is_plain_http else client_context(node),
        tcp_timeout=NODE_TIMEOUT,
    )
    if isinstance(stream, TlsStream):
        try:
            check_certificate(stream, node, plan.server_name)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    return stream
