"""Lists in pages: nothing twice, nothing left out, whatever comes and goes between two pages."""

from itertools import cycle
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.api import paging
from coderd.api.io.client import ApiClient
from coderd.api.io.exchange import Exchange
from coderd.api.messages import (
    MAX_LIST,
    ListQuery,
    PageQuery,
    UserInfo,
    UserList,
    encode_message,
    parse_query,
)
from coderd.api.paging import fit, page_of
from coderd.model.errors import MalformedPacket, UserError


def users(names: list[str]) -> list[UserInfo]:
    return [UserInfo(id=UUID(int=1), name=name, is_admin=False) for name in names]


def page(everybody: list[UserInfo], query: PageQuery) -> UserList:
    things, keys, has_more = page_of(everybody, lambda user: user.name, query)
    shown, after = fit(things, keys, query, has_more=has_more)
    return UserList(users=shown, next=after)


def all_pages(everybody: list[UserInfo], limit: int) -> list[str]:
    names, after = list[str](), ""
    while True:
        found = page(everybody, PageQuery(after=after, limit=limit))
        names += [user.name for user in found.users]
        assert len(found.users) <= limit
        if found.next is None:
            return names
        assert found.users
        after = found.next


@given(st.sets(st.text("ab/-", min_size=1, max_size=5)), st.integers(1, 7))
def test_the_pages_together_are_the_list(names: set[str], limit: int) -> None:
    assert all_pages(users(list(names)), limit) == sorted(names)


def test_who_asks_for_no_page_is_sent_all_as_before() -> None:
    found = page(users(["b", "a"]), ListQuery())
    assert ([user.name for user in found.users], found.next) == (["a", "b"], None)


def test_what_goes_between_two_pages_hides_nothing() -> None:
    first = page(users(["a", "b", "c", "d"]), PageQuery(limit=2))
    assert first.next == "b"
    second = page(users(["a", "c", "d"]), PageQuery(after="b", limit=2))
    assert [user.name for user in second.users] == ["c", "d"]


def test_a_page_has_no_more_bytes_than_fit_and_one_thing_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = users(["a", "b" * 60, "c"])
    monkeypatch.setattr(paging, "MAX_BYTES", len(encode_message(everybody[0])) + 1)
    assert all_pages(everybody, 3) == ["a", "b" * 60, "c"]
    assert page(everybody, PageQuery(limit=3)).next == "a"
    assert page(everybody, PageQuery()).next is None


@pytest.mark.parametrize("values", [{"limit": "0"}, {"limit": str(MAX_LIST + 1)}, {"after": "x" * 201}])
def test_a_page_has_bounds(values: dict[str, str]) -> None:
    with pytest.raises(MalformedPacket):
        parse_query(ListQuery, values)


def test_the_client_reads_all_pages_of_a_server_that_has_20000_users_and_a_last_releases_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everybody = users([f"u{number:05}" for number in range(20_000)])
    asked = list[str]()

    def ask(self: Exchange, kind: object, method: str, path: str, body: object = None) -> UserList:
        asked.append(path)
        _, _, query = path.partition("?")
        values = dict(pair.split("=") for pair in query.split("&"))
        found = page(everybody, parse_query(PageQuery, values))
        assert len(encode_message(found)) < 2 << 20
        return found

    monkeypatch.setattr(Exchange, "ask", ask)
    assert ApiClient("http://127.0.0.1:1").list_users() == everybody
    assert len(asked) == 4
    monkeypatch.setattr(Exchange, "ask", lambda *_: UserList(users=everybody))
    assert ApiClient("http://127.0.0.1:1").list_users() == everybody


@pytest.mark.parametrize(("nexts", "n_asked"), [("a", 2), ("aba", 3), ("abcdefghij", 7)])
def test_a_list_that_does_not_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, nexts: str, n_asked: int
) -> None:
    """At once where it goes back, and else after so many pages."""
    told, asked = cycle(nexts), list[object]()

    def ask(*request: object) -> UserList:
        asked.append(request)
        assert len(asked) <= n_asked
        return UserList(users=users(["a"]), next=next(told))

    monkeypatch.setattr(Exchange, "ask", ask)
    monkeypatch.setattr("coderd.api.io.exchange.MAX_PAGES", 7)
    with pytest.raises(UserError) as caught:
        ApiClient("http://127.0.0.1:1").list_users()
    assert "does not end" in caught.value.message
    assert len(asked) == n_asked
