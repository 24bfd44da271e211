"""What becomes of the parts' wishes: packets, events, and what one part asks of another."""

import pytest

from coderd.disco import CallMeMaybe, Ping
from coderd.magicsock import EndpointsChanged, PathChanged, PathLost, SocketsUnwanted, SocketsWanted
from coderd.magicsock.dispatcher import Dispatcher
from coderd.magicsock.punching import CloseSocket, OpenSockets, SendFrom, Wish
from coderd.model.paths import PathKind, Pin
from coderd.model.transport import SocketId, UdpTransmit
from tests.unit.magicsock.test_conn import ADDR, OTHER, REGION, Bench, T

SPARE = SocketId(5)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def dispatcher(bench: Bench) -> Dispatcher:
    return bench.conn._dispatcher


def test_an_endpoints_wishes_become_sealed_packets_and_its_path_an_event(
    bench: Bench, dispatcher: Dispatcher
) -> None:
    bench.start()
    kinds = [(to, type(message)) for to, message in bench.messages()]
    assert kinds == [(ADDR, Ping), (REGION, CallMeMaybe), (REGION, Ping)]
    (changed,) = bench.events(PathChanged)
    assert (changed.peer, changed.path.kind) == (bench.key, PathKind.RELAY)
    assert dispatcher.poll_event() is None


def test_a_path_that_is_as_it_was_is_no_event(bench: Bench, dispatcher: Dispatcher) -> None:
    bench.start()
    bench.events(PathChanged)
    dispatcher.note_paths(T + 1)
    assert bench.events(PathChanged) == []
    bench.conn._peers[bench.key].endpoint.pin = Pin.DIRECT
    dispatcher.note_paths(T + 2)
    assert [event.path.kind for event in bench.events(PathChanged)] == [PathKind.NONE]


def test_a_lost_path_is_an_event_only_while_no_relay_reaches_the_peer(
    bench: Bench, dispatcher: Dispatcher
) -> None:
    bench.start()
    bench.make_direct()
    bench.conn.handle_rebound(T + 1)
    assert bench.events(PathLost) == []
    bench.make_direct(T + 1)
    bench.conn.handle_relay_broken(REGION, T + 2)
    bench.conn.handle_rebound(T + 2)
    assert bench.events(PathLost) == [PathLost(bench.key)]


def test_punchings_wishes_become_events_and_datagrams(bench: Bench, dispatcher: Dispatcher) -> None:
    wishes: list[Wish] = [OpenSockets((SPARE,)), SendFrom(SPARE, OTHER, b"stun"), CloseSocket(None, SPARE)]
    bench.conn._punching._wishes.extend(wishes)
    dispatcher.drain_common(T)
    assert bench.transmits() == [UdpTransmit(OTHER, [b"stun"], 4, socket=SPARE)]
    assert dispatcher.poll_event() == SocketsWanted((SPARE,))
    assert dispatcher.poll_event() == SocketsUnwanted((SPARE,))


def test_new_endpoints_of_ours_go_to_every_active_peer_by_relay(bench: Bench) -> None:
    bench.start()
    bench.transmits()
    bench.events(EndpointsChanged)
    bench.conn.set_local_endpoints(41641, None, ["10.0.0.1", "10.0.0.2"], T + 1)
    calls = [message for _, message in bench.messages() if isinstance(message, CallMeMaybe)]
    assert calls == [CallMeMaybe((("10.0.0.1", 41641), ("10.0.0.2", 41641)))]
    assert len(bench.events(EndpointsChanged)) == 1
