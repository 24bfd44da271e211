"""Idle connections wait in one place, few and not for long."""

from uuid import UUID

from coderd.apps.idle import (
    IDLE_TIMEOUT,
    MAX_IDLE,
    MAX_IDLE_PER_ROUTE,
    MAX_IDLE_PER_WORKSPACE,
    IdlePool,
    Route,
)

ANNS = Route(UUID(int=1), 8080, b"ann")


def test_the_one_used_last_serves_first_and_once() -> None:
    pool: IdlePool[str] = IdlePool()
    assert pool.take(ANNS) is None
    assert pool.put(ANNS, "a", 0.0) == pool.put(ANNS, "b", 1.0) == []
    assert [pool.take(ANNS), pool.take(ANNS), pool.take(ANNS)] == ["b", "a", None]


def test_no_other_person_port_or_workspace_gets_it() -> None:
    pool: IdlePool[str] = IdlePool()
    pool.put(ANNS, "a", 0.0)
    others = [Route(UUID(int=2), 8080, b"ann"), ANNS._replace(port=80), ANNS._replace(session_hash=b"bob")]
    assert [pool.take(other) for other in [*others, ANNS._replace(session_hash=None)]] == [None] * 4


def test_who_waits_too_long_goes() -> None:
    pool: IdlePool[str] = IdlePool()
    pool.put(ANNS, "a", 0.0)
    pool.put(ANNS, "b", 1.0)
    assert pool.expire(IDLE_TIMEOUT - 0.1) == []
    assert pool.expire(IDLE_TIMEOUT) == ["a"]
    assert (pool.clear(), len(pool)) == (["b"], 0)


def test_a_route_and_all_of_them_hold_so_many_and_the_oldest_makes_room() -> None:
    pool: IdlePool[int] = IdlePool()
    for number in range(MAX_IDLE_PER_ROUTE):
        assert pool.put(ANNS, number, 0.0) == []
    assert pool.put(ANNS, 100, 0.0) == [0]
    for number in range(1000, 1000 + MAX_IDLE - MAX_IDLE_PER_ROUTE):
        assert pool.put(ANNS._replace(workspace_id=UUID(int=number)), number, 1.0) == []
    assert pool.put(ANNS._replace(workspace_id=UUID(int=9)), 9, 1.0) == [1]
    assert len(pool) == MAX_IDLE


def test_a_workspace_has_so_many_whatever_the_ports_and_whoever_asks() -> None:
    pool: IdlePool[int] = IdlePool()
    for number in range(MAX_IDLE_PER_WORKSPACE):
        assert pool.put(Route(UUID(int=1), number, bytes([number])), number, 0.0) == []
    assert pool.put(Route(UUID(int=2), 1, b"ann"), 200, 0.0) == []
    assert pool.put(ANNS, 100, 0.0) == [0]
