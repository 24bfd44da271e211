"""Which addresses and names a node is dialled with."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.derp.dial_plan import CertificateRule, certificate_rule, dial_plan, dial_plans
from coderd.derp.upgrade import upgrade_request
from coderd.model.derpmap import DerpNode, DerpRegion

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "derpmap.json").read_text()
)["dial_plans"]["cases"]


def node_of(fields: dict[str, Any]) -> DerpNode:
    return DerpNode(
        "n",
        1,
        fields["HostName"],
        ipv4=fields.get("IPv4", ""),
        ipv6=fields.get("IPv6", ""),
        derp_port=fields.get("DERPPort", 0),
        stun_only=fields.get("STUNOnly", False),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["node"]))
def test_plans_are_as_the_rules_have_it(case: dict[str, Any]) -> None:
    plans = dial_plans(DerpRegion(1, "r", "Region", (node_of(case["node"]),)))
    shown = [
        f"tcp{attempt.family.value} "
        + (f"[{attempt.host}]" if ":" in attempt.host else attempt.host)
        + f":{attempt.port}"
        for plan in plans
        for attempt in plan.attempts
    ]
    assert shown == [attempt.partition(" (")[0] for attempt in case["attempts"]]
    if "sni" in case:
        assert plans[0].server_name == case["sni"]
    if "http_host" in case:
        assert plans[0].host_header == case["http_host"]


def test_a_plain_http_node_defaults_to_port_80_and_names_any_other() -> None:
    assert dial_plan(DerpNode("n", 1, "h", force_http=True)).attempts[0].port == 80
    assert dial_plan(DerpNode("n", 1, "h", force_http=True)).host_header == "h"
    plan = dial_plan(DerpNode("n", 1, "h", derp_port=443, force_http=True))
    assert plan.host_header == "h:443"
    assert plan.server_name is None


def test_an_ipv6_literal_is_bracketed_in_the_request() -> None:
    plan = dial_plan(DerpNode("n", 1, "2001:db8::1", derp_port=3000))
    assert b"\r\nHost: [2001:db8::1]:3000\r\n" in upgrade_request(plan, "n")


@pytest.mark.parametrize("address", ["", "192.0.2.1"])
@pytest.mark.parametrize(
    "name",
    [
        "h\r\n\r\nPOST /admin HTTP/1.1",
        "h\nX: y",
        "h x",
        "h/path?",
        "user@h",
        "h:80",
        "a\0b",
        "",
        ".",
        "a..b",
        ".h",
        "x" * 64,
        "x." * 130 + "x",
        "\u00e9" * 80,
        "fe80::1%\u00b2",
        "[::1]",
    ],
)
def test_what_is_no_name_of_a_host_is_not_dialled_and_stands_in_no_header(name: str, address: str) -> None:
    """Else whoever writes the map would write whole requests to a node's LAN, or end its daemon by a name."""
    assert dial_plan(DerpNode("n", 1, name, ipv4=address, force_http=True)).attempts == ()


@pytest.mark.parametrize("name", ["x\r\n\r\nPOST /admin HTTP/1.1", "x\ny", "x\r", "\u00e9", "\x1b"])
def test_nor_does_the_name_of_a_node_that_is_not_fit_for_one(name: str) -> None:
    plan = dial_plan(DerpNode("n", 1, "h", force_http=True))
    assert upgrade_request(plan, name) == upgrade_request(plan, "n")


@pytest.mark.parametrize(
    "name", ["h", "relay-1.example.com", "relay.example.com.", "a_b", "b\u00fccher.example"]
)
def test_names_are_dialled(name: str) -> None:
    assert dial_plan(DerpNode("n", 1, name)).attempts


@pytest.mark.parametrize(
    ("cert_name", "is_insecure", "rule"),
    [
        ("", False, CertificateRule.HOST_NAME),
        ("h", False, CertificateRule.HOST_NAME),
        ("front.example", False, CertificateRule.OTHER_NAME),
        ("sha256-raw:ab", False, CertificateRule.PIN),
        ("", True, CertificateRule.ANYTHING),
        ("sha256-raw:ab", True, CertificateRule.PIN),
        ("front.example", True, CertificateRule.OTHER_NAME),
    ],
)
def test_the_certificate_rule_follows_the_map(
    cert_name: str, is_insecure: bool, rule: CertificateRule
) -> None:
    node = DerpNode("n", 1, "h", cert_name=cert_name, insecure_for_tests=is_insecure)
    assert certificate_rule(node) is rule
