"""Keys against vectors made by the upstream key types."""

import json
import pickle
from pathlib import Path

import pytest

from coderd.model.keys import (
    DiscoPrivate,
    DiscoPublic,
    NodePrivate,
    NodePublic,
    PrivateKey,
    PublicKey,
    ServerPrivate,
    ServerPublic,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/keys.json").read_text(encoding="utf-8"))
KINDS: dict[str, tuple[type[NodePrivate | DiscoPrivate], type[PublicKey]]] = {
    "node": (NodePrivate, NodePublic),
    "disco": (DiscoPrivate, DiscoPublic),
}
RAW = bytes(range(32))


@pytest.mark.parametrize("case", VECTORS["keys"], ids=lambda case: case["name"])
def test_public_keys_and_texts_are_upstreams(case: dict[str, str]) -> None:
    private_type, public_type = KINDS[case["kind"]]
    private = private_type(bytes.fromhex(case["private"]))
    public = private.public()
    assert type(public) is public_type
    assert public.hex() == case["public"]
    assert public.text == case["public_text"]
    assert public_type.parse(case["public_text"]) == public
    if "private_text" in case:
        assert private.secret_text() == case["private_text"]
        assert private_type.parse(case["private_text"]) == private


def test_a_private_key_is_clamped() -> None:
    clamp = VECTORS["clamp"]
    assert NodePrivate(bytes.fromhex(clamp["in"])).raw.hex() == clamp["out"]
    assert NodePrivate.generate(lambda size: b"\xff" * size).raw == b"\xf8" + b"\xff" * 30 + b"\x7f"


@pytest.mark.parametrize("private_type", [NodePrivate, DiscoPrivate, ServerPrivate])
def test_a_private_key_does_not_show_itself(private_type: type[PrivateKey]) -> None:
    private = private_type(RAW)
    for shown in (repr(private), str(private), f"{private}", f"{[private]}"):
        assert private.raw.hex() not in shown
        assert repr(private.raw) not in shown
        assert "redacted" in shown


def test_private_keys_of_different_roles_are_never_equal() -> None:
    assert NodePrivate(RAW) == NodePrivate(RAW)
    assert NodePrivate(RAW) != DiscoPrivate(RAW)
    assert NodePrivate(RAW) != RAW


def test_a_private_key_is_no_dictionary_key() -> None:
    with pytest.raises(TypeError):
        hash(NodePrivate(RAW))


def test_a_key_of_another_size_is_refused() -> None:
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            NodePublic(bytes(size))
        with pytest.raises(ValueError, match="32 bytes"):
            NodePrivate(bytes(size))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nodekey:",
        RAW.hex(),
        "discokey:" + RAW.hex(),
        "nodekey:" + RAW.hex()[:-1],
        "nodekey:" + RAW.hex() + "0",
        "nodekey:" + "g" * 64,
        "nodekey:" + "00 " * 21 + "0",
        "nodekey:" + " " * 64,
    ],
)
def test_text_that_is_no_such_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nodekey:<64 hex digits>"):
        NodePublic.parse(text)


def test_a_refused_private_text_is_not_repeated() -> None:
    secret = "privkey:" + "zz" * 32
    with pytest.raises(ValueError, match="privkey:<64 hex digits>") as caught:
        NodePrivate.parse(secret)
    assert "zz" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_public_keys_are_bytes_and_say_who_they_are() -> None:
    key = NodePublic(RAW)
    assert {key: 1}[NodePublic(RAW)] == 1
    assert key == RAW
    assert key.short == "[00010203]"
    assert repr(key) == "<NodePublic 0001020304050607>"
    assert ServerPublic(RAW).text == "derpkey:" + RAW.hex()


def test_a_public_key_survives_pickling_as_what_it_is() -> None:
    assert type(pickle.loads(pickle.dumps(DiscoPublic(RAW)))) is DiscoPublic
