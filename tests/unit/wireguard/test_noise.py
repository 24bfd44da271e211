"""The handshake against vectors made with the reference implementation, every intermediate value included."""

from collections.abc import Callable
from typing import Any

import pytest

from coderd.model.keys import NodePrivate, NodePublic
from coderd.wireguard import noise
from coderd.wireguard.cookie import MacStamp
from coderd.wireguard.message import Initiation, Response, parse_handshake
from coderd.wireguard.noise import (
    HandshakeRejected,
    Identity,
    Pending,
    Remote,
    Transcript,
    TransportKeys,
    create_initiation,
    open_static,
)
from tests.unit.wireguard.support import SCENARIOS, VECTORS, unhex


class Trace:
    """Everything that passed through any transcript."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.values: set[str] = set()
        for name in ("mix_hash", "mix_key", "mix_key_and_derive", "mix_preshared_key", "seal", "open"):
            monkeypatch.setattr(Transcript, name, self._recorded(getattr(Transcript, name)))

    def _recorded(self, method: Callable[..., object]) -> Callable[..., object]:
        def recorded(transcript: Transcript, *args: object) -> object:
            self._note(transcript.chaining_key, transcript.hash, *args)
            result = method(transcript, *args)
            self._note(transcript.chaining_key, transcript.hash, result)
            return result

        return recorded

    def _note(self, *values: object) -> None:
        self.values.update(value.hex() for value in values if isinstance(value, bytes))


class Ends:
    """Both ends of a scenario, each step taken when asked for."""

    def __init__(self, inputs: dict[str, Any], timestamp: str) -> None:
        self.inputs = {name: unhex(value) for name, value in inputs.items() if isinstance(value, str)}
        self.initiator = Identity(NodePrivate(self.inputs["initiator_static_private"]))
        self.responder = Identity(NodePrivate(self.inputs["responder_static_private"]))
        self.preshared_key = self.inputs["preshared_key"]
        self.timestamp = unhex(timestamp)
        self.indices = inputs["initiator_sender_index"], inputs["responder_sender_index"]

    def remote_of(self, own: Identity, other: NodePublic) -> Remote:
        return Remote(other, own.exchange(other), self.preshared_key)

    def initiate(self) -> tuple[Initiation, Pending]:
        return create_initiation(
            self.initiator,
            self.remote_of(self.initiator, self.responder.public),
            ephemeral=self.inputs["initiator_ephemeral_private"],
            timestamp=self.timestamp,
            sender=self.indices[0],
        )

    def respond(self, initiation: Initiation) -> tuple[Response, TransportKeys]:
        opened = open_static(initiation, self.responder)
        remote = self.remote_of(self.responder, opened.claimed)
        assert opened.claimed == self.initiator.public
        assert opened.open_timestamp(remote.static_static) == self.timestamp
        ephemeral = self.inputs["responder_ephemeral_private"]
        return opened.create_response(remote, ephemeral=ephemeral, sender=self.indices[1])


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario["name"])
def scenario(request: pytest.FixtureRequest) -> dict[str, Any]:
    chosen: dict[str, Any] = request.param
    return chosen


@pytest.fixture
def ends(scenario: dict[str, Any]) -> Ends:
    return Ends(scenario["inputs"], scenario["inputs"]["timestamp_tai64n"])


def test_primitives_match_their_vectors() -> None:
    primitives = VECTORS["primitives"]
    for case in primitives["blake2s_256"]:
        assert noise.hash_of(unhex(case["input"])).hex() == case["out"]
    for case in primitives["keyed_blake2s_128"]:
        assert noise.mac(unhex(case["key"]), unhex(case["input"])).hex() == case["out"]
    for case in primitives["hmac_blake2s"]:
        assert noise.hmac_of(unhex(case["key"]), unhex(case["input"])).hex() == case["out"]
    for case in primitives["kdf"]:
        outputs = noise.kdf(unhex(case["key"]), unhex(case["input"]), 3)
        assert [output.hex() for output in outputs] == [case["t1"], case["t2"], case["t3"]]


def test_a_handshake_starts_from_the_protocols_name() -> None:
    assert noise.INITIAL_CHAINING_KEY.hex() == VECTORS["primitives"]["initial_chaining_key"]
    assert noise.INITIAL_HASH.hex() == VECTORS["primitives"]["initial_hash"]


def test_static_keys_derive_their_public_halves(ends: Ends) -> None:
    assert ends.initiator.public == ends.inputs["initiator_static_public"]
    assert ends.responder.public == ends.inputs["responder_static_public"]


def test_the_initiation_is_the_vectors(ends: Ends, scenario: dict[str, Any]) -> None:
    message, _ = ends.initiate()
    stamped = MacStamp(ends.responder.public).stamp(message.encode(), 0.0)
    assert stamped.hex() == scenario["initiation"]["packet"]
    assert parse_handshake(stamped) == message


def test_the_response_is_the_vectors(ends: Ends, scenario: dict[str, Any]) -> None:
    message, keys = ends.respond(ends.initiate()[0])
    stamped = MacStamp(ends.initiator.public).stamp(message.encode(), 0.0)
    assert stamped.hex() == scenario["response"]["packet"]
    assert parse_handshake(stamped) == message
    steps = scenario["response"]["steps"]
    assert keys.send.hex() == steps["transport_key_responder_to_initiator"]
    assert keys.receive.hex() == steps["transport_key_initiator_to_responder"]


def test_the_initiator_derives_the_same_keys_crosswise(ends: Ends) -> None:
    initiation, pending = ends.initiate()
    response, responders = ends.respond(initiation)
    keys = pending.finish(response, ends.initiator, ends.preshared_key)
    assert (keys.send, keys.receive) == (responders.receive, responders.send)


def test_every_intermediate_value_of_the_initiation_occurs(
    ends: Ends, scenario: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Trace(monkeypatch)
    ends.initiate()
    wanted = {name: value for name, value in scenario["initiation"]["steps"].items() if "mac" not in name}
    assert [name for name, value in wanted.items() if value not in trace.values] == []


@pytest.mark.parametrize("side", ["initiator", "responder"])
def test_every_intermediate_value_of_the_response_occurs_at_both_ends(
    ends: Ends, scenario: dict[str, Any], side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    initiation, pending = ends.initiate()
    response = Ends(scenario["inputs"], ends.timestamp.hex()).respond(initiation)[0]
    trace = Trace(monkeypatch)
    if side == "responder":
        ends.respond(initiation)
    else:
        pending.finish(response, ends.initiator, ends.preshared_key)
    others = ("mac", "transport_key", "tau")
    steps = scenario["response"]["steps"].items()
    wanted = {name: value for name, value in steps if not name.startswith(others)}
    assert [name for name, value in wanted.items() if value not in trace.values] == []


def test_a_forged_response_leaves_the_pending_handshake_whole(ends: Ends) -> None:
    initiation, pending = ends.initiate()
    response, _ = ends.respond(initiation)
    forged = response._replace(encrypted_nothing=bytes(16))
    with pytest.raises(HandshakeRejected):
        pending.finish(forged, ends.initiator, ends.preshared_key)
    assert pending.finish(response, ends.initiator, ends.preshared_key)


def test_only_the_initiator_notices_another_preshared_key(ends: Ends) -> None:
    initiation, pending = ends.initiate()
    response, _ = ends.respond(initiation)
    with pytest.raises(HandshakeRejected):
        pending.finish(response, ends.initiator, bytes(31) + b"\x01")


@pytest.mark.parametrize("point", VECTORS["low_order_points_must_be_rejected"])
def test_a_point_of_low_order_is_refused_wherever_it_comes_from(ends: Ends, point: str) -> None:
    with pytest.raises(HandshakeRejected):
        ends.initiator.exchange(unhex(point))
    initiation, pending = ends.initiate()
    with pytest.raises(HandshakeRejected):
        open_static(initiation._replace(ephemeral=unhex(point)), ends.responder)
    response, _ = ends.respond(initiation)
    with pytest.raises(HandshakeRejected):
        pending.finish(response._replace(ephemeral=unhex(point)), ends.initiator, ends.preshared_key)


def test_an_initiation_for_somebody_else_does_not_open(ends: Ends) -> None:
    initiation, _ = ends.initiate()
    with pytest.raises(HandshakeRejected):
        open_static(initiation, ends.initiator)


def test_no_secret_shows_in_a_repr(ends: Ends) -> None:
    keys = ends.respond(ends.initiate()[0])[1]
    remote = ends.remote_of(ends.initiator, ends.responder.public)
    shown = repr(keys) + repr(remote) + repr(ends.initiator)
    for secret in (*keys, remote.static_static, remote.preshared_key):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
