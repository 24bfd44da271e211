"""Some of ``scripts/lab matrix``: what its measurements say is as predicted, and in time."""

import pytest
from lab_matrix import batches, run_batch
from lab_report import ALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

DIRECT_CEILING = 0.6
"""Seconds: three times the 200 ms and six round trips that 99 of 100 shall take; round trips take nothing here."""


@pytest.mark.parametrize("name", ["hairpin", "server-masked", "websockets-pass"])
def test_a_named_topology_ends_as_predicted(name: str) -> None:
    (outcome,) = run_batch([name])
    assert outcome.is_as_predicted, outcome.got
    assert outcome.first_byte is not None
    if outcome.direct is not None:
        assert outcome.direct < DIRECT_CEILING


def test_pairs_of_nats_take_turns_in_one_laboratory() -> None:
    outcomes = list(run_batch(["easy-by-port/easy-by-port", "easy-open/hard-open"]))
    assert [outcome.is_as_predicted for outcome in outcomes] == [True, True]
    assert all((outcome.direct or 9) < DIRECT_CEILING for outcome in outcomes)


def test_every_topology_is_in_one_batch() -> None:
    assert [name for batch in batches(list(ALL)) for name in batch] == list(ALL)
