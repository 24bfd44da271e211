"""The table of one machine's timers."""

from enum import IntEnum

from coderd.model.timers import TimerTable
from coderd.wireguard.timers import Timer


class Name(IntEnum):
    FIRST = 0
    SECOND_ONE = 1


def test_the_timer_table_fires_in_order_and_says_why() -> None:
    table = TimerTable(Timer)
    assert (table.poll_timeout(), table.pop_due(1e9)) == (None, None)
    table.arm(Timer.KEEPALIVE, 10.0)
    table.arm(Timer.RETRANSMIT, 5.0)
    assert table.poll_timeout() == (5.0, "retransmit")
    assert table.pop_due(4.9) is None
    assert [table.pop_due(20.0), table.pop_due(20.0), table.pop_due(20.0)] == [
        Timer.RETRANSMIT,
        Timer.KEEPALIVE,
        None,
    ]


def test_timers_fire_the_longest_overdue_first_and_once() -> None:
    table = TimerTable(Name)
    table.set(Name.FIRST, 20.0)
    table.set(Name.SECOND_ONE, 10.0)
    assert table.poll_timeout() == (10.0, "second one")
    assert table.pop_due(9.9) is None
    assert table.pop_due(30.0) is Name.SECOND_ONE
    assert table.pop_due(30.0) is Name.FIRST
    assert table.pop_due(30.0) is None
    assert table.poll_timeout() is None


def test_a_table_says_whether_an_instant_has_changed_since_its_reader_cleared_that() -> None:
    table = TimerTable(Name)
    table.disarm(Name.FIRST)
    assert not table.is_changed
    table.arm(Name.FIRST, 1.0)
    assert table.is_changed
    table.is_changed = False
    table.arm(Name.FIRST, 1.0)
    assert not table.is_changed
    table.clear()
    assert table.is_changed
    assert not table.is_armed(Name.FIRST)
