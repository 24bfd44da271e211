"""What a tunnel lives through: suspension, clocks that jump, NATs that forget, and a server that is gone for good."""

import pytest

from coderd.model.transport import UdpSource
from coderd.wireguard.tai64n import stamp_of
from tests.sim.test_aims import A_TICK, AIM_RTTS, streaming, streaming_relayed
from tests.sim.world import EASY, OPEN, Nat, Pair

pytestmark = pytest.mark.slow

MINUTE, HOUR = 60.0, 3600.0


@pytest.mark.parametrize("asleep", [20.0, 5 * MINUTE, 8 * HOUR])
@pytest.mark.parametrize("sleeper", ["user", "dev"])
def test_who_wakes_from_suspension_is_back_within_a_second(sleeper: str, asleep: float) -> None:
    world = streaming(0.05)
    node = getattr(world, sleeper)
    node.sleep()
    world.pause_stream()
    world.run_for(asleep)
    if node.nat is not None:
        node.nat.forget()
    node.wake()
    woken_at = world.now
    world.stream(A_TICK)
    world.run_for(3)
    assert world.gap(woken_at) <= 1.0
    world.run_for(30)
    assert world.is_direct()


@pytest.mark.parametrize("jump", [-10 * 365 * 24 * HOUR, -HOUR, HOUR, 10 * 365 * 24 * HOUR])
def test_a_wall_clock_that_jumps_ends_no_session_and_turns_no_timestamp_back(jump: float) -> None:
    world = streaming(0.05)
    world.stream(0.5)
    jumped_at = world.now
    world.user.wall_clock_error = jump
    world.run_for(5 * MINUTE)  # long enough for two handshakes
    assert world.gap(jumped_at) <= 0.5 + 1e-6
    assert world.user.stamps == sorted(world.user.stamps)


def test_a_clock_set_back_before_a_restart_still_gives_later_timestamps() -> None:
    world = streaming(0.05)
    before = world.user.stamps[-1]
    world.user.kill()
    world.user.wall_clock_error = -365 * 24 * HOUR
    world.user.start()
    started_at = world.now
    world.run_for(5)
    assert world.gap(started_at) <= 1.0
    assert world.user.running.core.tai64n_mark is not None
    assert world.user.running.core.tai64n_mark > before > stamp_of(world.user.running.unix)


@pytest.mark.parametrize("rtt", AIM_RTTS)
def test_mappings_that_a_nat_forgets_cost_less_than_a_second(rtt: float) -> None:
    world = streaming(rtt)
    forgotten_at = world.now
    assert world.user.nat is not None
    world.user.nat.forget()
    world.run_for(8)
    assert world.gap(forgotten_at) <= 1.0
    assert world.is_direct()


def test_mappings_that_expired_in_idleness_cost_nothing_but_the_way_by_the_relay() -> None:
    world = streaming(0.05)
    world.pause_stream()
    world.run_for(10 * MINUTE)
    for node in world.nodes:
        assert node.nat is not None
        node.nat.forget()
    resumed_at = world.now
    world.stream(A_TICK)
    world.run_for(8)
    assert world.gap(resumed_at) <= 0.4
    assert world.is_direct()


def test_an_unplugged_cable_costs_nothing_once_it_is_back() -> None:
    world = streaming(0.05)
    world.user.is_unplugged = True
    world.run_for(5)
    world.user.is_unplugged = False
    world.user.running.handle_network_change()
    back_at = world.now
    world.run_for(8)
    assert world.gap(back_at) <= 1.0
    assert world.is_direct()


# The server is gone


@pytest.mark.parametrize("rtt", AIM_RTTS)
@pytest.mark.parametrize("victims", [["user"], ["dev"], ["user", "dev"], ["dev", "user"]])
def test_without_a_server_restarted_nodes_are_direct_again(rtt: float, victims: list[str]) -> None:
    world = streaming(rtt)
    world.stop_server()
    world.run_for(2)
    for name in victims:
        getattr(world, name).kill()
        world.run_for(0.7)
        getattr(world, name).start()
    started_at = world.now
    world.run_for(5)
    assert world.gap(started_at) <= 3.0
    assert world.is_direct()


def test_without_a_server_twenty_restarts_of_both_are_survived() -> None:
    world = streaming(0.05)
    world.stop_server()
    for _ in range(20):
        world.run_for(2)
        for node in world.nodes:
            node.kill()
        for node in world.nodes:
            world.run_for(world.rng.uniform(0.0, 2.0))
            node.start()
        started_at = world.now
        world.run_until(world.is_direct, 5)
        assert world.is_direct()
        assert world.now - started_at <= 3.0


def test_a_server_that_comes_back_after_restarts_in_its_absence_is_not_noticed() -> None:
    world = streaming(0.05)
    world.stop_server()
    world.run_for(2)
    for node in world.nodes:
        node.kill()
        node.start()
    world.run_for(10)
    assert world.is_direct()
    back_at = world.now
    world.start_server()
    world.run_for(30)
    assert world.is_joined()
    assert world.gap(back_at) <= A_TICK + 1e-6


def test_without_a_server_a_node_may_roam_as_long_as_its_peer_lets_it_in() -> None:
    world = streaming(0.05, EASY, OPEN)
    world.stop_server()
    world.run_for(2)
    moved_at = world.now
    world.user.move("10.9.9.9", Nat("198.51.100.77", *EASY, rng=world.rng))
    world.run_for(5)
    assert world.gap(moved_at) <= 0.4
    assert world.is_direct()


def test_without_a_relay_a_bulk_of_nonsense_disco_causes_one_handshake_a_second() -> None:
    world = streaming(0.05)
    before = world.user.running.counters["wireguard.initiations_sent"]
    nonsense = b"TS\xf0\x9f\x92\xac" + bytes(100)
    for _ in range(1000):
        assert world.dev.nat is not None
        source = world.dev.nat.outbound(world.dev.addr, ("198.51.100.2", 1))
        world.user.running.handle_udp(UdpSource(source), nonsense)
        world.run_for(0.01)
    assert world.user.running.counters["wireguard.initiations_sent"] - before <= 11
    assert world.is_direct()


def test_a_relay_that_is_gone_leaves_nothing_to_a_pair_that_needs_it() -> None:
    world = streaming_relayed(0.05)
    world.stop_server()
    world.run_for(5)
    n_arrived = len(world.dev.arrived)
    world.run_for(5)
    assert len(world.dev.arrived) == n_arrived


def test_news_of_a_restart_does_not_end_the_session_that_is_with_the_new_process_already() -> None:
    world = streaming(0.05)
    world.dev.kill()
    world.dev.start()
    world.run_until(lambda: world.user.running.counters["wireguard.initiations_sent"] > 1, 1)
    world.run_for(0.06)  # a round trip later there is a session, of which the server's news knows nothing
    device = world.user.running.core._device
    assert device.status(world.now).peers[0].has_session
    device.forget_sessions(world.dev.public, world.now)
    assert device.status(world.now).peers[0].has_session
    world.run_for(3)
    device.forget_sessions(world.dev.public, world.now)
    assert not device.status(world.now).peers[0].has_session


def knows_who_comes(world: Pair) -> bool:
    """Whether the workspace has the secret of the user's newest start."""
    user, dev = world.user.running, world.dev.running
    return dev.core.secrets.is_shown(world.user.public, user.core.secrets.ours(world.dev.public))


@pytest.mark.parametrize("who", ["user", "dev"])
@pytest.mark.parametrize("has_server", [True, False])
def test_the_secret_of_a_start_is_there_with_its_first_packets(who: str, has_server: bool) -> None:
    world = streaming(0.05)
    assert knows_who_comes(world)
    if not has_server:
        world.stop_server()
    node = getattr(world, who)
    node.kill()
    node.start()
    restarted_at = world.now
    world.run_for(3)
    assert world.gap(restarted_at) <= 1.5
    assert knows_who_comes(world)


def test_a_peers_own_word_is_saved_and_outlives_the_restart_of_who_heard_it() -> None:
    """No server says it: the map in force follows the introduction, and the next life begins with it."""
    world = Pair(user=OPEN, dev=OPEN)
    world.join()
    world.stream()
    world.run_for(5)
    world.stop_server()
    world.dev.kill()
    world.dev.start()

    def is_known() -> bool:
        netmap = world.user.running.core.netmap
        assert netmap is not None
        return netmap.peers[world.dev.identity.node_id].generation == world.dev.running.core.generation

    world.run_until(is_known, 20)
    assert is_known()
    world.user.kill()
    world.user.start()
    assert is_known()
