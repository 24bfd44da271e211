"""Who reaches whom, as the page shows it.

Few in a matrix, many in a list, and ends that differ side by side.
"""

from uuid import UUID

from coderd.api.messages import ReachInfo
from coderd.dashboard.paths import MAX_MATRIX, Way, age_text, view_paths


def reach(
    node: str,
    peer: str,
    path: str = "direct",
    *,
    kind: str = "device",
    rtt: float | None = 0.012,
    region: str = "",
) -> ReachInfo:
    return ReachInfo(
        node=node,
        node_id=UUID(int=1),
        kind=kind,
        peer=peer,
        peer_id=UUID(int=2),
        peer_kind="workspace" if kind == "device" else "device",
        path=path,  # type: ignore[arg-type]
        since=200.0,
        region=region,
        rtt=rtt,
    )


def test_few_are_a_matrix_of_devices_and_workspaces() -> None:
    view = view_paths(
        [
            reach("ann/laptop", "ann/dev"),
            reach("ann/dev", "ann/laptop", kind="workspace"),
            reach("bob/tower", "bob/lab", "relay", region="coder", rtt=None),
        ]
    )
    assert view.counts == (("direct", 2), ("relay", 1))
    assert view.head == ("ann/dev", "bob/lab")
    assert [row.name for row in view.rows] == ["ann/laptop", "bob/tower"]
    assert view.rows[0].cells == ((Way("direct", "direct", "12 ms", "3 min"),), ())
    assert view.rows[1].cells == ((), (Way("relay", "relay coder", "", "3 min"),))


def test_ends_that_differ_are_both_shown() -> None:
    view = view_paths(
        [
            reach("ann/dev", "ann/laptop", "relay", kind="workspace", region="fra"),
            reach("ann/laptop", "ann/dev"),
        ]
    )
    ((cell,),) = (row.cells for row in view.rows)
    assert [(way.by, way.text) for way in cell] == [("ann/laptop", "direct"), ("ann/dev", "relay fra")]


def test_many_are_a_list() -> None:
    view = view_paths([reach(f"ann/laptop{n}", f"ann/dev{n}", "none") for n in range(MAX_MATRIX)])
    assert (view.head, view.rows) == ((), ())
    assert len(view.lines) == MAX_MATRIX
    assert view.lines[0].way.text == "idle"


def test_nobody_is_no_matrix() -> None:
    view = view_paths([])
    assert (view.counts, view.head, view.lines) == ((), (), ())


def test_ages() -> None:
    assert [age_text(seconds) for seconds in (0.5, 61, 7200, 200_000)] == ["0 s", "1 min", "2 h", "2 d"]
