"""The table of all topologies: what differs from its prediction is seen at once."""

import math

from lab_report import Outcome, report, row, scenario_row
from lab_scenarios import Row


def test_what_is_as_predicted_says_so() -> None:
    outcome = Outcome("easy-nat", "direct", first_byte=0.0214, direct=0.0096)
    assert outcome.is_as_predicted
    assert row(outcome) == "| `easy-nat` | direct | direct | 21 ms | 10 ms | as predicted |"


def test_what_differs_is_bold() -> None:
    assert row(Outcome("easy-nat", "relay", 0.02)).endswith(
        "| direct | **relay** | 20 ms | – | **differs** |"
    )
    assert not Outcome("easy-nat", "failed: the server ended 1").is_as_predicted


def test_the_document_counts_and_tells_of_each() -> None:
    text = report(
        [Outcome("easy-nat", "direct", 0.02, 0.01), Outcome("easy-open/hard-open", "relay", 0.04)], []
    )
    assert "**1 of 2 as predicted.** Medians: first byte after 30 ms, direct after 10 ms." in text
    assert "- `easy-nat`: each behind a NAT with endpoint-independent mapping." in text


def test_a_silence_that_is_too_long_or_a_tcp_connection_that_dies_is_bold() -> None:
    assert scenario_row(Row("roam", "easy-nat", 0.3, tcp_survived=True)).endswith(
        "| 400 ms | 300 ms | lives | aim met |"
    )
    assert scenario_row(Row("roam", "easy-nat", 0.8, tcp_survived=True)).endswith(
        "| 800 ms | lives | within the ceiling |"
    )
    assert scenario_row(Row("roam", "easy-nat", 9.0, tcp_survived=True)).endswith(
        "| **9000 ms** | lives | **differs** |"
    )
    assert scenario_row(Row("roam", "easy-nat", math.inf, tcp_survived=False)).endswith(
        "| **–** | **dies** | **differs** |"
    )
