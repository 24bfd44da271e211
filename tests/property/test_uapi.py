"""Laws of the configuration protocol.

Total over any text, cut anywhere, and nothing changes where something is refused.
"""

import errno
import random
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from coderd.model.errors import MalformedPacket
from coderd.plain.configuration import apply, describe
from coderd.plain.paths import PlainPaths
from coderd.wireguard import Device
from coderd.wireguard.uapi import ConfigurationError, Request, RequestReader, encode_get, parse_set

KEYS = [bytes([i]).hex() * 32 for i in (0, 1, 2, 3)]

values = st.one_of(
    st.sampled_from(
        [
            *KEYS,
            "true",
            "false",
            "0",
            "1",
            "25",
            "51820",
            "10.0.0.1/8",
            "10.0.0.0/24",
            "-10.0.0.0/24",
            "fd00::/64",
            "0.0.0.0/0",
            "192.0.2.1:7",
            "[fe80::1%eth0]:7",
            "[::1]:9",
        ]
    ),
    st.text(max_size=20),
)
keys = st.sampled_from(
    [
        "private_key",
        "fwmark",
        "replace_peers",
        "public_key",
        "public_key",
        "public_key",
        "update_only",
        "remove",
        "preshared_key",
        "endpoint",
        "persistent_keepalive_interval",
        "replace_allowed_ips",
        "allowed_ip",
        "allowed_ip",
        "protocol_version",
        "nonsense",
    ]
)
lines = st.lists(st.builds("{}={}".format, keys, values) | st.text(max_size=30), max_size=12)
likely = st.lists(
    st.one_of(
        st.builds("public_key={}".format, st.sampled_from(KEYS)),
        st.builds("private_key={}".format, st.sampled_from(KEYS)),
        st.builds("preshared_key={}".format, st.sampled_from(KEYS)),
        st.builds(
            "allowed_ip={}".format, st.sampled_from(["10.0.0.1/8", "10.0.0.0/24", "-10.0.0.0/24", "::/0"])
        ),
        st.sampled_from(
            ["replace_peers=true", "replace_allowed_ips=true", "remove=true", "update_only=true"]
        ),
        st.sampled_from(["endpoint=192.0.2.1:7", "persistent_keepalive_interval=25", "fwmark=7"]),
    ),
    max_size=12,
)


def zone(name: str) -> int | None:
    return {"eth0": 2}.get(name)


class Configured:
    """A device and its endpoints, as ``wg`` sees them."""

    def __init__(self) -> None:
        self.device = Device(rng=random.Random(1).randbytes, now=0.0)
        self.paths = PlainPaths(counters=Counter())

    def set(self, text: list[str]) -> None:
        apply(parse_set(text, zone), self.device, self.paths, 0.0)

    def get(self) -> str:
        return encode_get(
            describe(self.device, self.paths, 0.0, listen_port=0, fwmark=0, handshakes={})
        ).decode("ascii")


@given(lines | likely)
def test_any_lines_are_a_change_or_refused(text: list[str]) -> None:
    numbers = set()
    try:
        parse_set(text, zone)
    except ConfigurationError as refusal:
        numbers.add(refusal.number)
    assert numbers <= {errno.EINVAL, errno.EPROTO}


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_any_bytes_are_read_alike_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert _read([data]) == _read([data[a:b] for a, b in pairwise(edges)])


@given(lines, st.lists(st.integers(0, 300), max_size=6))
def test_requests_are_read_alike_however_they_are_cut(text: list[str], cuts: list[int]) -> None:
    data = ("set=1\n" + "\n".join(text) + "\n\n").encode("latin-1", "replace")
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert _read([data]) == _read([data[a:b] for a, b in pairwise(edges)])


@given(st.lists(likely, max_size=3), lines)
def test_what_is_refused_changes_nothing(before: list[list[str]], text: list[str]) -> None:
    world = Configured()
    for each in before:
        _try(world, each)
    shown = world.get()
    if not _try(world, text):
        assert world.get() == shown


@given(st.lists(likely, max_size=4))
def test_what_get_tells_set_takes_and_tells_again(history: list[list[str]]) -> None:
    world, copy = Configured(), Configured()
    for each in history:
        _try(world, each)
    told = [line for line in world.get().splitlines() if line.partition("=")[0] in SETTABLE]
    copy.set(told)
    assert copy.get() == world.get()


@given(st.lists(likely, max_size=5))
def test_a_prefix_has_one_owner_whatever_was_asked(history: list[list[str]]) -> None:
    world = Configured()
    for each in history:
        _try(world, each)
    prefixes = [line for line in world.get().splitlines() if line.startswith("allowed_ip=")]
    assert len(prefixes) == len(set(prefixes))


SETTABLE = frozenset(
    [
        "private_key",
        "public_key",
        "preshared_key",
        "protocol_version",
        "endpoint",
        "persistent_keepalive_interval",
        "allowed_ip",
    ]
)


def _try(world: Configured, text: list[str]) -> bool:
    try:
        world.set(text)
    except ConfigurationError:
        return False
    return True


def _read(pieces: list[bytes]) -> list[Request | str | None]:
    reader = RequestReader()
    requests: list[Request | str | None] = []
    try:
        for piece in pieces:
            requests += reader.feed(piece)
        requests.append(reader.finish())
    except MalformedPacket:
        requests.append("malformed")
    return requests
