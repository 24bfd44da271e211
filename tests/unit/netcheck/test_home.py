"""The choice of the home region against histories that upstream's functions were run over."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.netcheck.home import HomeQuestion, choose_home
from coderd.netcheck.report import Report

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/netcheck.json").read_text(encoding="utf-8"))


def reports_of(case: dict[str, Any]) -> list[Report]:
    now, reports = 0.0, []
    for step in case["steps"]:
        now += step["after_ms"] / 1000
        latencies = {int(region): us / 1e6 for region, us in step["latency_us"].items()}
        reports.append(Report(started_at=now - 0.1, taken_at=now, region_latency=latencies))
    return reports


@pytest.mark.parametrize("case", VECTORS["preferred_derp"], ids=lambda case: case["name"])
def test_homes_are_upstreams(case: dict[str, Any]) -> None:
    heard_at = {int(region): ms / 1000 for region, ms in case.get("last_derp_frame_ms", {}).items()}
    scores = {int(region): score for region, score in case.get("region_score", {}).items()}
    history: list[Report] = []
    homes: list[int] = []
    for report in reports_of(case):
        question = HomeQuestion(homes[-1] if homes else 0, heard_at, scores, case.get("forced", 0))
        homes.append(choose_home(report, history, question))
        history.append(report)
    assert homes == case["preferred_after_each_step"]


def test_of_equally_near_regions_the_lower_number_is_home() -> None:
    report = Report(0.0, 1.0, region_latency={7: 0.02, 3: 0.02})
    assert choose_home(report, [], HomeQuestion()) == 3


def test_a_home_that_was_heard_but_not_measured_is_not_left() -> None:
    report = Report(started_at=9.0, taken_at=10.0, region_latency={2: 0.001})
    assert choose_home(report, [], HomeQuestion(previous=1, heard_at={1: 9.5})) == 1


def test_a_home_silent_and_unmeasured_is_left() -> None:
    report = Report(started_at=9.0, taken_at=10.0, region_latency={2: 0.001})
    assert choose_home(report, [], HomeQuestion(previous=1, heard_at={1: 2.0})) == 2
    assert choose_home(report, [], HomeQuestion(previous=1)) == 2


def test_without_measurement_or_frame_there_is_no_home() -> None:
    assert choose_home(Report(0.0, 1.0), [], HomeQuestion()) == 0
    assert choose_home(Report(0.0, 1.0), [], HomeQuestion(previous=1)) == 0


def test_a_region_that_is_forced_but_silent_is_not_home() -> None:
    report = Report(started_at=9.0, taken_at=10.0, region_latency={2: 0.001})
    assert choose_home(report, [], HomeQuestion(forced=1)) == 2
    assert choose_home(report, [], HomeQuestion(forced=1, heard_at={1: 9.5})) == 1


def test_a_region_without_a_relay_is_measured_and_never_home() -> None:
    report = Report(0.0, 1.0, region_latency={7: 0.02, 1000: 0.001})
    assert choose_home(report, [], HomeQuestion(barred=frozenset({1000}))) == 7
    assert choose_home(report, [], HomeQuestion(barred=frozenset({7, 1000}))) == 0
