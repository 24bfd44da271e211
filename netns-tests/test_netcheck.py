"""``coderctl netcheck`` sees what the laboratory was built of.

::

    user ──[router]── core ──[router]── dev
                        │
                      server
"""

import pytest
from lab import Lab

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.mark.parametrize(
    ("topology", "nat", "varies", "mapping"),
    [
        ("no-nat", False, False, "endpoint-independent"),
        ("easy-nat", True, False, "unknown"),  # two ports of one address do not tell more
        ("hard-nat-both", True, True, "address-and-port-dependent"),
    ],
)
def test_the_nat_is_seen_as_it_was_built(topology: str, nat: bool, varies: bool, mapping: str) -> None:
    with Lab(topology) as lab:
        lab.join()
        found = lab.user.json("netcheck")
        assert found["UDP"] is found["IPv4"] is True
        assert found["MappingVariesByDestIP"] is varies
        assert (found["nat"], found["mapping"], found["filtering"]) == (nat, mapping, "unknown")
        assert found["GlobalV4"].startswith("198.51.100.2:")
        assert found["PreferredDERP"] == 999
        assert 0 < found["RegionLatency"]["999"] < 1e9
        assert found["regions"][0]["code"] == "coder"
        assert found["regions"][0]["preferred"] is True
        assert abs(found["clock_skew_s"]) < 2
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
