"""The relays at which one peer may be, and what a round sends by them."""

from random import Random

from coderd.magicsock.peer_relay import PeerRelay
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.pings import SendCallMeMaybe, SendPing
from coderd.magicsock.prober import Prober
from coderd.magicsock.relay_set import RelaySet
from coderd.magicsock.rounds import ROUND_INTERVAL, Rounds
from coderd.model.keys import NodePublic

T = 1000.0


def vars_of(relay: PeerRelay) -> tuple[object, ...]:
    return relay.home, relay.heard, relay.is_known, relay.latency


def test_a_relay_is_known_while_the_peer_lives_there_or_is_heard_there() -> None:
    relay = PeerRelay()
    assert not relay.is_known
    assert relay.set_home(7)
    assert not relay.set_home(7)
    relay.hear(2)
    relay.set_home(0)
    assert relay.is_known
    assert not relay.lose(7)
    assert relay.lose(2)
    assert not relay.is_known


def test_a_peer_is_reached_where_it_was_heard_while_its_home_is_not_connected() -> None:
    relays, relay = RelaySet(), PeerRelay()
    relay.set_home(7)
    relay.hear(2)
    assert (relays.region_for(relay), relays.reaches(relay)) == (7, False)
    relays.handle_connected(2)
    assert (relays.region_for(relay), relays.reaches(relay)) == (2, True)
    relays.handle_connected(7)
    assert relays.region_for(relay) == 7


def test_a_restart_forgets_where_the_peer_was() -> None:
    relay = PeerRelay()
    relay.set_home(7)
    relay.hear(2)
    relay.latency = 0.02
    relay.restart()
    assert vars_of(relay) == vars_of(PeerRelay())


def test_a_round_calls_and_pings_by_a_relay_that_is_known_and_pings_it_once_in_five_seconds() -> None:
    rng, relay = Random(1).randbytes, PeerRelay()
    prober = Prober(NodePublic(b"a" * 32), rng=rng, probe_size=1312, budget=PingBudget())
    rounds = Rounds(prober, relay)

    def sent(now: float) -> list[type]:
        rounds.run(now, allows_direct=True)
        return [type(wish) for wish in iter(prober.poll_wish, None)]

    assert sent(T) == []
    relay.set_home(7)
    assert sent(T + 1) == [SendCallMeMaybe, SendPing]
    assert sent(T + 2) == [SendCallMeMaybe]
    assert sent(T + 1 + ROUND_INTERVAL) == [SendCallMeMaybe, SendPing]
