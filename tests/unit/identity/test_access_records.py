"""What was opened is kept, newest first, and the oldest goes."""

from pathlib import Path
from uuid import UUID

from coderd.identity.io.access_records import AccessRecord, AccessRecords
from coderd.identity.io.database import Database


def used(number: int) -> AccessRecord:
    return AccessRecord(float(number), "ann/laptop", UUID(int=1), "tunnel.used", f"ann/dev{number}", "direct")


def test_the_newest_are_kept_and_numbers_are_never_given_twice(tmp_path: Path) -> None:
    database = Database(tmp_path / "identity.db")
    openings = AccessRecords(database, max_kept=3)
    openings.add([used(number) for number in range(1, 3)])
    openings.add([used(number) for number in range(3, 6)])
    kept = openings.page()
    assert [(each.number, each.target) for each in kept] == [
        (5, "ann/dev5"),
        (4, "ann/dev4"),
        (3, "ann/dev3"),
    ]
    assert (kept[0].actor, kept[0].action, kept[0].detail) == ("ann/laptop", "tunnel.used", "direct")
    assert [each.number for each in openings.page(before=5, limit=1)] == [4]
    database.close()


def test_nobody_pushes_out_what_others_used(tmp_path: Path) -> None:
    database = Database(tmp_path / "identity.db")
    openings, ann, eve = AccessRecords(database, max_kept=10), UUID(int=1), UUID(int=2)
    openings.add([used(number)._replace(user_id=ann) for number in range(4)])
    for first in range(100, 160, 10):
        openings.add([used(number)._replace(user_id=eve) for number in range(first, first + 10)])
    targets = [each.target for each in openings.page()]
    assert targets[-4:] == ["ann/dev3", "ann/dev2", "ann/dev1", "ann/dev0"]
    assert targets[:6] == [f"ann/dev{number}" for number in range(159, 153, -1)]
    database.close()
