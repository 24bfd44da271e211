"""Deadlines, errors, and what a DERP map says about itself."""

from coderd.model.deadline import Deadline, earliest
from coderd.model.derpmap import DerpMap, DerpRegion
from coderd.model.errors import Exit, MalformedPacket, UserError


def test_the_earliest_deadline_is_the_first_of_those_that_are_set() -> None:
    soon, later = Deadline(1.0, "soon"), Deadline(2.0, "later")
    assert earliest(None, later, soon, None) == soon
    assert earliest(None, None) is None
    assert earliest() is None


def test_a_region_is_named_by_code_or_else_by_number() -> None:
    derp_map = DerpMap({999: DerpRegion(999, "coder", "Coder")})
    assert derp_map.code(999) == "coder"
    assert derp_map.code(7) == "7"


def test_an_error_for_a_person_carries_what_a_machine_needs() -> None:
    error = UserError(
        "No such workspace.", exit_code=Exit.NO_SUCH_WORKSPACE, hint="See.", code="no_such_workspace"
    )
    assert str(error) == error.message == "No such workspace."
    assert (int(error.exit_code), error.hint, error.code) == (5, "See.", "no_such_workspace")


def test_a_malformed_packet_is_a_value_error() -> None:
    assert issubclass(MalformedPacket, ValueError)
