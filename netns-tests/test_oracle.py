"""The oracle itself: it contradicts neither itself nor what is known of NATs, and knows nothing of coderd."""

import ast
from itertools import product
from pathlib import Path

import oracle
import pytest
from lab import TOPOLOGIES, Filtering, Mapping, Nat
from lab.named import nat_grid
from lab.topology import EASY, EASY_BY_ADDRESS, EASY_OPEN, HARD, NAT_KINDS, Site
from oracle import behaviour, in_a_row, predict, predict_nats

PAIRS = list(product(NAT_KINDS.values(), repeat=2))


def test_the_oracle_and_its_words_import_nothing_of_ours() -> None:
    here = Path(oracle.__file__).parent
    imported = set()
    for file in (here / "oracle.py", here / "lab" / "topology.py", here / "lab" / "named.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module))
    assert imported == {"typing", "dataclasses", "enum", "lab.topology"}


def test_there_are_twelve_kinds_of_nat_and_each_pair_is_in_the_grid_once() -> None:
    assert len(set(NAT_KINDS.values())) == 12
    assert len(nat_grid()) == 12 * 13 // 2


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        (EASY, EASY, "direct"),
        (HARD, EASY_OPEN, "direct"),
        (HARD, EASY_BY_ADDRESS, "direct"),
        (HARD, EASY, "relay"),
        (HARD, HARD, "relay"),
        (NAT_KINDS["address-by-address"], NAT_KINDS["address-by-address"], "relay"),
        (NAT_KINDS["hard-open"], HARD, "direct"),
        (NAT_KINDS["sequential-by-port"], EASY, "direct"),
        (NAT_KINDS["sequential-by-port"], HARD, "relay"),
        (NAT_KINDS["sequential-by-port"], NAT_KINDS["sequential-by-port"], "relay"),
        (NAT_KINDS["sequential-by-port"], NAT_KINDS["address-by-address"], "relay"),
        (NAT_KINDS["sequential-by-address"], HARD, "direct"),
        (NAT_KINDS["sequential-by-address"], NAT_KINDS["sequential-by-port"], "direct"),
    ],
    ids=str,
)
def test_what_is_known_of_pairs(one: Nat, other: Nat, path: str) -> None:
    assert predict_nats(one, other) == path


def test_a_path_is_the_same_from_both_ends() -> None:
    assert all(predict_nats(one, other) == predict_nats(other, one) for one, other in PAIRS)


def test_a_looser_filter_never_costs_the_direct_path() -> None:
    order = list(Filtering)
    for one, other in PAIRS:
        for looser in order[: order.index(one.filtering)]:
            if predict_nats(one, other) == "direct":
                assert predict_nats(Nat(one.mapping, looser, one.sequential), other) == "direct"


def test_an_independent_mapping_never_costs_the_direct_path() -> None:
    for one, other in PAIRS:
        if predict_nats(one, other) == "direct":
            assert predict_nats(Nat(Mapping.ENDPOINT_INDEPENDENT, one.filtering), other) == "direct"


def test_sequential_ports_are_as_good_as_random_ones_where_nobody_foretells_them() -> None:
    for one, other in PAIRS:
        expected = predict_nats(one, other, foretells=False)
        assert predict_nats(Nat(one.mapping, one.filtering), other, foretells=False) == expected


def test_foretelling_opens_paths_and_closes_none() -> None:
    for one, other in PAIRS:
        if predict_nats(one, other) != predict_nats(one, other, foretells=False):
            assert predict_nats(one, other) == "direct"
            assert one.sequential or other.sequential


def test_nats_in_a_row_are_as_hard_as_the_hardest() -> None:
    assert in_a_row(EASY, HARD) == in_a_row(HARD, EASY) == HARD
    assert in_a_row(EASY_OPEN, EASY) == EASY
    assert behaviour(Site(EASY, upstream=HARD)) == HARD


def test_a_nat_is_nothing_to_ipv6() -> None:
    assert behaviour(Site(HARD), 6) == EASY_OPEN


def test_every_named_topology_has_a_prediction() -> None:
    relayed = {name for name, topology in TOPOLOGIES.items() if predict(topology) == "relay"}
    assert relayed == {
        "hard-strict",
        "hard-nat-both",
        "udp-blocked",
        "udp-blocked-here",
        "no-hairpin",
        "cgnat-hard",
        "mtu-1280",
        "large-swallowed",
        "broken-ipv6-hard",
        "behind-nginx",
        "behind-haproxy",
        "server-masked",
        "server-balanced",
        "direct-blocked",
        "websockets-forced",
        "websockets-pass",
        "private-ca",
        "private-ca-nginx",
        "two-regions",
        "region-killed",
    }
