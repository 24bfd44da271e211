"""What was opened is kept, newest first, and the oldest goes."""

from pathlib import Path
from uuid import UUID

from coderd.identity.io.database import Database
from coderd.identity.io.openings import Opening, Openings


def used(number: int) -> Opening:
    return Opening(float(number), "ann/laptop", UUID(int=1), "tunnel.used", f"ann/dev{number}", "direct")


def test_the_newest_are_kept_and_numbers_are_never_given_twice(tmp_path: Path) -> None:
    database = Database(tmp_path / "identity.db")
    openings = Openings(database, max_kept=3)
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
