"""Names of relays become addresses: one that does not resolve holds up the others for a moment only."""

import pytest
import trio
from trio.testing import MockClock

from coderd.engine.io import relay_hosts
from coderd.engine.io.relay_hosts import (
    PATIENCE,
    RESOLVE_RETRY,
    RelayHosts,
    Resolved,
    is_complete,
    resolve_hosts,
)
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


async def test_relay_names_that_do_not_resolve_are_asked_again(autojump_clock: MockClock) -> None:
    """At boot DNS may come later than the daemon; the relay's addresses were once missed for good."""
    answers: list[Resolved] = [{"relay": ()} for _ in range(2 * len(PATIENCE))]
    seen: list[Resolved] = []

    async def resolve(derp_map: DerpMap, patience: float) -> Resolved:
        await trio.lowlevel.checkpoint()
        return answers.pop(0) if answers else {"relay": ("192.0.2.10",)}

    hosts = RelayHosts(lambda derp_map, resolved: seen.append(resolved), resolve)
    hosts.set_derp_map(DERP_MAP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hosts.run)
        await trio.sleep(2.5 * RESOLVE_RETRY)
        nursery.cancel_scope.cancel()
    assert seen[-1] == {"relay": ("192.0.2.10",)}
