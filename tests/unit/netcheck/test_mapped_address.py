"""What a server saw in place of a node is told from what may be the node."""

import pytest

from coderd.netcheck import ForeignAddress, HostAddresses
from coderd.netcheck.findings import Findings

HERE = HostAddresses(
    addresses=frozenset({"10.0.1.2", "2001:db8:1::2"}), tunnels=frozenset({"10.8.0.2", "100.64.0.9"})
)
PUBLIC_SERVER = "192.0.2.10"
PRIVATE_SERVER = "10.9.0.1"


@pytest.mark.parametrize(
    ("seen", "server", "oddity"),
    [
        ("198.51.100.2", PUBLIC_SERVER, None),  # our NAT
        ("10.0.1.2", PRIVATE_SERVER, None),  # no NAT, in one private network
        ("10.0.1.2", PUBLIC_SERVER, None),  # the public address is routed to us, or is ours
        ("10.7.0.1", PRIVATE_SERVER, None),  # a NAT within the company
        ("192.168.7.1", PUBLIC_SERVER, ForeignAddress.INNER),  # a router or balancer that hides its senders
        ("100.64.3.4", PUBLIC_SERVER, ForeignAddress.INNER),
        ("fd00::1", "2001:db8::10", ForeignAddress.INNER),
        (PUBLIC_SERVER, PUBLIC_SERVER, ForeignAddress.SERVERS_OWN),
        (PRIVATE_SERVER, PRIVATE_SERVER, ForeignAddress.SERVERS_OWN),
        ("10.8.0.2", "10.8.0.1", ForeignAddress.TUNNEL),  # the server is asked through somebody's tunnel
        ("100.64.0.9", "100.64.0.1", ForeignAddress.TUNNEL),
    ],
)
def test_what_may_be_this_node_is_believed_and_nothing_else(
    seen: str, server: str, oddity: ForeignAddress | None
) -> None:
    assert HERE.why_foreign(seen, server) is oddity


def test_a_server_on_this_very_host_sees_the_host() -> None:
    assert HERE.why_foreign("10.0.1.2", "10.0.1.2") is None


def test_a_masked_sighting_proves_udp_and_tells_no_mapping() -> None:
    findings = Findings(HERE)
    findings.note_stun(999, (PUBLIC_SERVER, 3478), ("192.168.7.1", 5000), 0.02)
    findings.note_stun(999, (PUBLIC_SERVER, 3479), ("192.168.7.1", 5001), 0.01)
    report = findings.report(0.0, 1.0)
    assert report.udp
    assert report.ipv4
    assert report.region_latency == {999: 0.01}
    assert (report.global_v4, report.mapping_varies_by_dest) == (None, None)
    assert (report.global_v4_counters, report.v4_mappings) == ({}, {})
    assert list(report.foreign_mappings) == [(PUBLIC_SERVER, 3478), (PUBLIC_SERVER, 3479)]
