"""What stands before the server is told from what it says and from what its STUN sees."""

import pytest

from coderd.netcheck import Here
from coderd.netcheck.report import Report
from coderd.netcheck.standing import Passage, Standing, standing_of

SERVER = "192.0.2.10"
STUN = (SERVER, 3478)
HERE = Here(frozenset({"10.0.1.2"}), frozenset({"10.8.0.2"}))
SEEN = Report(0.0, 1.0, udp=True, global_v4=("198.51.100.2", 5))
SILENT = Report(0.0, 1.0)


@pytest.mark.parametrize(
    ("report", "passage", "standing"),
    [
        (SEEN, Passage(SERVER, 4), Standing.OPEN),
        (SILENT, Passage(SERVER, 0), Standing.OPEN),  # our own firewall, then
        (SEEN, Passage("192.168.7.2", 4), Standing.FORWARDED),
        (SEEN, Passage("127.0.0.1", 4), Standing.FORWARDED),  # a proxy on the server's host
        (SILENT, Passage("192.168.7.2", 7), Standing.FORWARDED),  # somebody's UDP does get through
        (SILENT, Passage("192.168.7.2", 0), Standing.CLOSED),
        (
            Report(0.0, 1.0, udp=True, odd_sightings={STUN: ("192.168.7.1", 1)}),
            Passage("192.168.7.2", 4),
            Standing.MASKED,
        ),
        (Report(0.0, 1.0, udp=True, odd_sightings={STUN: (SERVER, 1)}), None, Standing.MASKED),
        (Report(0.0, 1.0, udp=True, odd_sightings={STUN: ("10.8.0.2", 1)}), None, Standing.UNKNOWN),
        (SILENT, None, Standing.UNKNOWN),
        (None, Passage(SERVER, 0), Standing.UNKNOWN),
    ],
)
def test_the_servers_standing(report: Report | None, passage: Passage | None, standing: Standing) -> None:
    assert standing_of(report, HERE, {SERVER}, passage, has_stun=True) is standing


def test_without_stun_nothing_is_missed_and_without_a_name_nothing_is_known() -> None:
    passage = Passage("192.168.7.2", 0)
    assert standing_of(SILENT, HERE, {SERVER}, passage, has_stun=False) is Standing.FORWARDED
    assert standing_of(SILENT, HERE, (), passage, has_stun=True) is Standing.UNKNOWN
