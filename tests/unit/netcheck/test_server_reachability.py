"""What stands before the server is told from what it says and from what its STUN sees."""

import pytest

from coderd.netcheck import HostAddresses
from coderd.netcheck.report import Report
from coderd.netcheck.server_reachability import ServerReachability, ServerView, server_reachability

SERVER = "192.0.2.10"
STUN = (SERVER, 3478)
HERE = HostAddresses(frozenset({"10.0.1.2"}), frozenset({"10.8.0.2"}))
SEEN = Report(0.0, 1.0, udp=True, global_v4=("198.51.100.2", 5))
SILENT = Report(0.0, 1.0)


@pytest.mark.parametrize(
    ("report", "passage", "standing"),
    [
        (SEEN, ServerView(SERVER, 4), ServerReachability.OPEN),
        (SILENT, ServerView(SERVER, 0), ServerReachability.OPEN),  # our own firewall, then
        (SEEN, ServerView("192.168.7.2", 4), ServerReachability.FORWARDED),
        (SEEN, ServerView("127.0.0.1", 4), ServerReachability.FORWARDED),  # a proxy on the server's host
        (
            SILENT,
            ServerView("192.168.7.2", 7),
            ServerReachability.FORWARDED,
        ),  # somebody's UDP does get through
        (SILENT, ServerView("192.168.7.2", 0), ServerReachability.CLOSED),
        (
            Report(0.0, 1.0, udp=True, foreign_mappings={STUN: ("192.168.7.1", 1)}),
            ServerView("192.168.7.2", 4),
            ServerReachability.MASKED,
        ),
        (Report(0.0, 1.0, udp=True, foreign_mappings={STUN: (SERVER, 1)}), None, ServerReachability.MASKED),
        (
            Report(0.0, 1.0, udp=True, foreign_mappings={STUN: ("10.8.0.2", 1)}),
            None,
            ServerReachability.UNKNOWN,
        ),
        (SILENT, None, ServerReachability.UNKNOWN),
        (None, ServerView(SERVER, 0), ServerReachability.UNKNOWN),
    ],
)
def test_the_servers_standing(
    report: Report | None, passage: ServerView | None, standing: ServerReachability
) -> None:
    assert server_reachability(report, HERE, {SERVER}, passage, has_stun=True) is standing


def test_without_stun_nothing_is_missed_and_without_a_name_nothing_is_known() -> None:
    passage = ServerView("192.168.7.2", 0)
    assert (
        server_reachability(SILENT, HERE, {SERVER}, passage, has_stun=False) is ServerReachability.FORWARDED
    )
    assert server_reachability(SILENT, HERE, (), passage, has_stun=True) is ServerReachability.UNKNOWN
