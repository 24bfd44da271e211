"""Findings about a server: from signs to codes, severities and fixes."""

from dataclasses import replace

import pytest

from coderd.process.stalls import Stalls
from coderd.server.health.findings import AccessTrials, Signs, Trial, find, worst

NOW = 1_800_000_000.0
DAY = 86_400.0
WELL = AccessTrials(at=NOW, http=Trial(), websocket=Trial(), derp=Trial(), skew=0.0)
HEALTHY = Signs(
    access_url="https://coder.example.com",
    access=WELL,
    stun=((("192.0.2.1", 3478), True),),
    database_seconds=0.001,
    newest_record_at=NOW - 5,
    certificate_begins_at=NOW - DAY,
    certificate_ends_at=NOW + 90 * DAY,
)
NGINX = "nginx/1.22.1"
REFUSED = Trial("the upgrade is answered with status 426", NGINX)

CASES: dict[str, Signs] = {
    "EACS03": replace(HEALTHY, access=AccessTrials(at=NOW, http=Trial("Connection refused"))),
    "EACS04": replace(HEALTHY, access=replace(WELL, is_other=True, http=Trial(middlebox=NGINX))),
    "EWS01": replace(HEALTHY, access=replace(WELL, websocket=REFUSED)),
    "EDERP01": replace(HEALTHY, access=replace(WELL, derp=REFUSED, derp_websocket=Trial())),
    "EDERP03": replace(HEALTHY, access=replace(WELL, derp=REFUSED, derp_websocket=REFUSED)),
    "EDERP04": replace(HEALTHY, n_relays=0),
    "EMAP01": replace(HEALTHY, map_failure="it is not JSON"),
    "ESTUN01": replace(HEALTHY, stun=((("192.0.2.1", 3478), False),)),
    "ETLS01": replace(HEALTHY, certificate_ends_at=NOW + 5 * DAY),
    "ETLS02": replace(HEALTHY, certificate_ends_at=NOW - DAY),
    "ETLS03": replace(HEALTHY, certificate_begins_at=NOW + DAY),
    "EDB01": replace(HEALTHY, database_seconds=None, database_error="disk I/O error"),
    "EDB02": replace(HEALTHY, database_seconds=2.0),
    "ECLK01": replace(HEALTHY, access=replace(WELL, skew=-300.0)),
    "ECLK02": replace(HEALTHY, newest_record_at=NOW + 3 * DAY),
    "ELOOP01": replace(HEALTHY, stalls=Stalls(1, 1.5)),
    "EWEB01": replace(HEALTHY, web_apps_off="user namespaces are not allowed"),
}


def test_a_healthy_server_has_no_findings() -> None:
    assert find(HEALTHY, NOW) == ()
    assert worst(()) == "ok"


@pytest.mark.parametrize("code", CASES)
def test_each_sign_makes_its_own_finding_with_a_fix(code: str) -> None:
    (finding,) = find(CASES[code], NOW)
    assert finding.code == code
    assert finding.message.endswith(".")
    assert finding.fix.endswith(".")
    assert worst((finding,)) == finding.severity != "ok"


@pytest.mark.parametrize("code", ["EWS01", "EDERP01", "EDERP03"])
def test_who_holds_an_upgrade_back_is_named(code: str) -> None:
    (finding,) = find(CASES[code], NOW)
    assert NGINX in finding.fix


def test_errors_come_before_warnings() -> None:
    signs = replace(CASES["EDERP04"], web_apps_off="there is no TUN", map_failure="it is gone")
    found = find(signs, NOW)
    assert [finding.severity for finding in found] == ["error", "warning", "warning"]
    assert worst(found) == "error"


def test_short_stalls_are_worth_a_word_where_there_are_many() -> None:
    assert find(replace(HEALTHY, stalls=Stalls(4, 0.3)), NOW) == ()
    (finding,) = find(replace(HEALTHY, stalls=Stalls(5, 0.3)), NOW)
    assert "5 times" in finding.message


def test_a_team_that_blocks_direct_connections_misses_no_stun() -> None:
    assert find(replace(HEALTHY, stun=(), blocks_direct=True), NOW) == ()
    assert find(replace(HEALTHY, stun=()), NOW)[0].code == "ESTUN01"


def test_before_the_first_trials_nothing_is_said_of_the_access_url() -> None:
    assert find(replace(HEALTHY, access=None), NOW) == ()
