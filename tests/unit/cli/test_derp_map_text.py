"""What ``coderctl derp-map`` shows."""

from coderd.cli.derp_map import derp_map_text
from coderd.cli.settings import with_bare_value
from coderd.control.messages import DerpMapInfo, RelayCheck
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json

OWN = DerpRegion(
    999,
    "coder",
    "Coder Embedded Relay",
    (
        DerpNode("999b", 999, "10.0.0.1", derp_port=3000, force_http=True),
        DerpNode("999stun1", 999, "10.0.0.1", stun_port=3479, stun_only=True),
    ),
)
FAR = DerpRegion(
    1, "far", "Far", (DerpNode("1a", 1, "far.example.com", stun_port=-1),), no_measure_no_home=True
)
INFO = DerpMapInfo(map=derp_map_to_json(DerpMap({999: OWN, 1: FAR})), home=999, server_region=999)


def test_the_map_is_a_table_of_nodes() -> None:
    assert derp_map_text(INFO) == (
        "REGION  CODE   NODE      HOST             PORT  STUN\n"
        "1       far    1a        far.example.com  443   -     never a home\n"
        "999     coder  999b      10.0.0.1         3000  3478  home, the server, plain HTTP\n"
        "999     coder  999stun1  10.0.0.1         -     3479  home, the server, STUN only\n"
    )


def test_what_was_probed_is_a_table_too_and_problems_follow_it() -> None:
    checks = (
        RelayCheck(region=1, node="1a", problems=("TCP: Connection refused",)),
        RelayCheck(
            region=999, node="999b", stun_v4_ms=1.25, connect_ms=2.0, http_ms=1.0, derp_ms=30.0,
            derp_by="websocket", why_websocket="the upgrade was answered 403",
        ),
    )  # fmt: skip
    text = derp_map_text(DerpMapInfo(map=INFO.map, checks=checks))
    assert text.splitlines()[-4:] == [
        "",
        "! 1a of far: TCP: Connection refused",
        "  999b of coder is reached by WebSocket: the upgrade was answered 403",
        "1 of 2 nodes work as the map says",
    ]
    assert "by WebSocket" in text.splitlines()[2]


def test_an_option_may_stand_without_its_value() -> None:
    flag = "--derp-config-url"
    assert with_bare_value([flag], flag, "default") == [f"{flag}=default"]
    assert with_bare_value([flag, "--x", "y"], flag, "default") == [f"{flag}=default", "--x", "y"]
    assert with_bare_value([flag, "http://x", flag], flag, "d") == [flag, "http://x", f"{flag}=d"]
    assert with_bare_value(["--x", "y"], flag, "default") == ["--x", "y"]
    assert with_bare_value([], flag, "default") == []
