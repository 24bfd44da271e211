"""Latency where UDP is silent.

One small request to a region's relay, over TLS, or plainly where the map says so.
"""

import structlog
import trio

from coderd.derp.dial_plan import DialPlan, dial_plans
from coderd.derp.io.dial import dial_node
from coderd.http.dialer import read_response_head
from coderd.model.derpmap import DerpRegion
from coderd.model.errors import MalformedPacket

TIMEOUT = 4.0
"""Seconds for the whole of it: a netcheck asks after one second and reports after five."""

_PATH = "/derp/latency-check"

_log = structlog.get_logger(__name__)


async def https_latency(region: DerpRegion) -> float | None:
    """Measures the seconds that one request takes on a fresh connection, dialling and TLS not counted.

    The first of the region's relays that answers is measured. Returns None if none did, for whatever reason.
    """
    with trio.move_on_after(TIMEOUT):
        for plan in dial_plans(region):
            try:
                return await _measure(plan)
            except (OSError, MalformedPacket, trio.BrokenResourceError) as error:
                _log.debug("netcheck.https_failed", node=plan.node.name, reason=str(error.__cause__ or error))
    return None


async def _measure(plan: DialPlan) -> float:
    stream = await dial_node(plan)
    request = (
        f"GET {_PATH} HTTP/1.1\r\nHost: {plan.host_header}\r\nUser-Agent: coderd\r\nConnection: close\r\n\r\n"
    )
    try:
        asked_at = trio.current_time()
        await stream.send_all(request.encode("latin-1", errors="replace"))
        answer, _ = await read_response_head(stream)
        latency = trio.current_time() - asked_at
    finally:
        await trio.aclose_forcefully(stream)
    if not 200 <= answer.status <= 299:
        raise OSError(f"{plan.host_header} answers {_PATH} with {answer.status}")
    return latency
