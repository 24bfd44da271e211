"""Names of relays become addresses: one that does not resolve holds up the others for a moment only."""

import pytest
import trio
from trio.testing import MockClock

from coderd.engine.io import relay_hosts
from coderd.engine.io.relay_hosts import PATIENCE, is_complete, resolve_hosts
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion

NODES = (DerpNode("1a", 1, "192.0.2.10"), DerpNode("1b", 1, "slow.example"))
DERP_MAP = DerpMap({1: DerpRegion(1, "one", "One", NODES)})


async def test_what_resolves_is_known_soon_and_the_rest_has_more_time_later(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(host: str, resolved: dict[str, tuple[str, ...]]) -> None:
        await trio.sleep(1 if host == "slow.example" else 0)
        resolved[host] = ("192.0.2.10",)

    monkeypatch.setattr(relay_hosts, "_resolve", resolve)
    started_at = trio.current_time()
    first = await resolve_hosts(DERP_MAP, PATIENCE[0])
    assert first == {"192.0.2.10": ("192.0.2.10",), "slow.example": ()}
    assert trio.current_time() - started_at < 0.5
    assert not is_complete(first)
    assert is_complete(await resolve_hosts(DERP_MAP, PATIENCE[1]))


async def test_an_address_needs_no_resolver() -> None:
    literal = DerpMap({1: DerpRegion(1, "one", "One", NODES[:1])})
    assert await resolve_hosts(literal) == {"192.0.2.10": ("192.0.2.10",)}
