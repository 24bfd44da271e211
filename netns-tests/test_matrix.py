"""Some of ``scripts/lab matrix``: what its measurements say is as predicted, and in time."""

import lab_matrix
import pytest
from lab import LabError
from lab_matrix import batches, is_wanted, run_batch
from lab_report import ALL, Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

DIRECT_CEILING = 0.6
"""Seconds: three times the 200 ms and six round trips that 99 of 100 shall take.

Round trips take no time in the laboratory.
"""


@pytest.mark.parametrize(
    "name", ["hairpin", "server-masked", "websockets-pass", "private-ca", "region-killed"]
)
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


def test_a_topology_that_fails_is_named_and_the_others_of_its_batch_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail_or_watch(lab: object, probe: object, name: str) -> Outcome:
        if name.startswith("easy-by-port"):
            raise LabError("nothing came\nand more")
        return Outcome(name, "direct")

    monkeypatch.setattr(lab_matrix, "watch", fail_or_watch)
    outcomes = list(run_batch(["easy-by-port/easy-by-port", "easy-open/hard-open"]))
    assert outcomes == [
        Outcome("easy-by-port/easy-by-port", "failed: nothing came"),
        Outcome("easy-open/hard-open", "direct"),
    ]


def test_every_topology_is_in_one_batch() -> None:
    assert [name for batch in batches(list(ALL)) for name in batch] == list(ALL)


def test_a_pattern_means_pairs_only_with_a_slash() -> None:
    assert is_wanted("hard-open", "hard-*")
    assert not is_wanted("hard-open/hard-open", "hard-*")
    assert is_wanted("hard-open/hard-open", "*/hard-*")
    assert is_wanted("hard-open/hard-open", None)
