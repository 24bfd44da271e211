"""``coderctl netcheck`` sees what the laboratory was built of.

::

    user ──[router]── core ──[router]── dev
                        │
                      server
"""

import pytest
from lab import Lab, Site, Topology
from lab.topology import EASY_BY_ADDRESS

OPEN_BY_ADDRESS = Topology("", user=Site(EASY_BY_ADDRESS), dev=Site())

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.mark.parametrize(
    ("topology", "nat", "varies", "mapping", "filtering", "hairpin"),
    [
        ("no-nat", False, False, "endpoint-independent", "endpoint-independent", None),
        # two ports of one address do not tell more of the mapping
        ("easy-nat", True, False, "unknown", "address-and-port-dependent", False),
        ("hairpin", True, False, "unknown", "endpoint-independent", True),
        ("hard-nat-both", True, True, "address-and-port-dependent", "address-and-port-dependent", False),
        (OPEN_BY_ADDRESS, True, False, "unknown", "address-dependent", False),
    ],
)
def test_the_nat_is_seen_as_it_was_built(
    topology: str | Topology, nat: bool, varies: bool, mapping: str, filtering: str, hairpin: bool | None
) -> None:
    with Lab(topology) as lab:
        one, other = lab.internet.server_address, lab.internet.second_server_address
        stun = ",".join(f"{address}:{port}" for address in (one, other) for port in (3478, 3479))
        lab.join(server_arguments=["--stun-address", stun])
        found = lab.user.json("netcheck")
        assert found["UDP"] is found["IPv4"] is True
        assert found["MappingVariesByDestIP"] is varies
        assert (found["nat"], found["mapping"], found["filtering"]) == (nat, mapping, filtering)
        assert (found["HairPinning"], found["CaptivePortal"]) == (hairpin, False)
        assert (found["carries_full"], found["server"]) == (True, "open")
        assert found["GlobalV4"].startswith("198.51.100.2:")
        assert found["PreferredDERP"] == 999
        assert 0 < found["RegionLatency"]["999"] < 1e9
        assert found["regions"][0]["code"] == "coder"
        assert found["regions"][0]["preferred"] is True
        assert abs(found["clock_skew_s"]) < 0.5
        assert (found["mtu"], found["mtu_needed"]) == (1500, 1340)
        assert found["warnings"] == []
        text = lab.user.coderctl("netcheck")
        assert 'relay "coder"' in text
        assert "home" in text


def test_a_network_without_udp_is_measured_by_tcp() -> None:
    with Lab("udp-blocked") as lab:
        lab.join()
        lab.user.host.ip("link set eth0 mtu 1300")
        found = lab.user.json("netcheck")
        assert found["UDP"] is False
        assert found["nat"] is None
        assert found["GlobalV4"] == ""
        assert found["RegionLatency"]["999"] > 0
        assert [sentence.split()[0] for sentence in found["warnings"]] == ["No", "Packets"]


def test_a_server_that_is_forwarded_to_is_said_to_be_and_nothing_is_lost() -> None:
    with Lab("server-forwarded") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct")
        found = lab.user.json("netcheck")
        assert (found["server"], found["warnings"]) == ("forwarded", [])
        assert found["filters_by_port"] is True
        assert found["GlobalV4"].startswith("198.51.100.2:")


def test_whoever_stands_before_the_server_is_named_and_never_told_as_an_address() -> None:
    with Lab("server-masked-open") as lab:
        lab.join()
        lab.user.wait_for_path("dev", "direct")  # dev is public, and its own interface says so
        found = lab.user.json("netcheck")
        assert found["GlobalV4"] == ""
        (warning,) = found["warnings"]
        assert warning.startswith("The server is behind a NAT ")
        assert (lab.user.status() or {})["endpoints"] == ["10.0.1.2:41641"]
