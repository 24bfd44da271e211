"""Who may open an app, and with what: rights, passes, tickets, and requests that other pages make."""

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.apps.access import Verdict, judge
from coderd.apps.tickets import LIFETIME as TICKET_LIFETIME
from coderd.apps.tickets import MAX_TICKETS, Tickets
from coderd.browser.passes import LIFETIME, make_pass, read_pass
from coderd.browser.requests import is_own_request
from coderd.identity.apps import App, AppShare
from coderd.identity.people import Node, Share, User
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.model.ports import parse_ports

ANN, BOB, EVE = (User(UUID(int=number), name) for number, name in enumerate(("ann", "bob", "eve")))
KEY, HASH = bytes(32), b"h" * 32
OWN = "https://8080--dev--ann.apps.example.com"


def workspace(path: PathRule = PathRule.DIRECT, ports: str = "all") -> Node:
    return Node(
        UUID(int=9),
        NodeKind.WORKSPACE,
        "dev",
        ANN,
        0.0,
        path,
        (Share(BOB, parse_ports(ports), terminal=False),),
    )


def app(share: AppShare) -> App:
    return App("docs", 8080, share)


@pytest.mark.parametrize(
    ("share", "who_may"),
    [
        (AppShare.OWNER, {ANN}),
        (AppShare.SHARED, {ANN, BOB}),
        (AppShare.AUTHENTICATED, {ANN, BOB, EVE}),
        (AppShare.PUBLIC, {ANN, BOB, EVE, None}),
    ],
)
def test_an_app_is_open_to_whom_it_is_for(share: AppShare, who_may: set[User | None]) -> None:
    verdicts = {viewer: judge(app(share), workspace(), viewer) for viewer in (ANN, BOB, EVE, None)}
    assert {viewer for viewer, verdict in verdicts.items() if verdict is Verdict.OPEN} == who_may
    assert verdicts[None] in (Verdict.OPEN, Verdict.SIGN_IN)


@pytest.mark.parametrize(
    ("ports", "is_open"), [("8080", True), ("8000-8999", True), ("22", False), ("none", False)]
)
def test_a_guest_opens_an_app_only_where_the_share_names_its_port(ports: str, is_open: bool) -> None:
    verdict = judge(app(AppShare.SHARED), workspace(ports=ports), BOB)
    assert (verdict is Verdict.OPEN) == is_open
    assert judge(app(AppShare.SHARED), workspace(ports=ports), ANN) is Verdict.OPEN


@pytest.mark.parametrize("share", AppShare)
@pytest.mark.parametrize("viewer", [ANN, BOB, EVE, None])
def test_a_denied_workspace_and_one_that_is_not_there_look_the_same(
    share: AppShare, viewer: User | None
) -> None:
    denied = judge(app(share), workspace(PathRule.DENY), viewer)
    assert denied is judge(app(share), None, viewer)
    assert denied is (Verdict.SIGN_IN if viewer is None else Verdict.NOT_FOUND)


@pytest.mark.parametrize(
    ("method", "origin", "site", "mode", "is_own"),
    [
        ("GET", "", "", "", True),  # no browser
        ("POST", OWN, "same-origin", "cors", True),
        ("GET", "", "none", "navigate", True),
        ("GET", "", "cross-site", "navigate", True),  # a link
        ("GET", OWN, "same-origin", "websocket", True),
        ("GET", "https://1--x--eve.apps.example.com", "same-site", "websocket", False),
        ("GET", "", "same-site", "no-cors", False),
        ("POST", "", "same-site", "navigate", False),
        ("POST", "null", "cross-site", "navigate", False),
        ("POST", "https://evil.example", "", "", False),
    ],
)
def test_a_cookie_counts_for_the_apps_own_pages_and_for_going_there(
    method: str, origin: str, site: str, mode: str, is_own: bool
) -> None:
    assert is_own_request(method, origin, site, mode, OWN) is is_own


def test_a_pass_is_good_for_one_host_and_a_while() -> None:
    text = make_pass(KEY, "a.example", HASH, 1000.0)
    good = read_pass(KEY, "a.example", text, 1000.0)
    assert good is not None
    assert good.session_hash == HASH
    assert read_pass(KEY, "b.example", text, 1000.0) is None
    assert read_pass(bytes(31) + b"x", "a.example", text, 1000.0) is None
    assert read_pass(KEY, "a.example", text, 1000.0 + LIFETIME) is None


@given(st.text(max_size=100) | st.binary(max_size=72).map(lambda raw: raw.hex()[:96]))
def test_any_other_text_is_no_pass(text: str) -> None:
    assert read_pass(KEY, "a.example", text, 0.0) is None


@given(st.integers(0, 95), st.sampled_from("ABab09-_="))
def test_a_pass_with_one_letter_changed_is_no_other_pass(index: int, letter: str) -> None:
    text = make_pass(KEY, "a.example", HASH, 0.0)
    found = read_pass(KEY, "a.example", text[:index] + letter + text[index + 1 :], 0.0)
    assert found in (None, read_pass(KEY, "a.example", text, 0.0))


def test_a_ticket_is_good_once_at_its_host_and_not_for_long() -> None:
    tickets = Tickets(random.Random(1).randbytes)
    ticket = tickets.issue("a.example", HASH, "/x", 0.0)
    found = tickets.redeem(ticket, "a.example", 1.0)
    assert found is not None
    assert (found.session_hash, found.target) == (HASH, "/x")
    assert tickets.redeem(ticket, "a.example", 1.0) is None
    other = tickets.issue("a.example", HASH, "/x", 0.0)
    assert tickets.redeem(other, "b.example", 1.0) is None
    assert tickets.redeem(other, "a.example", 1.0) is None
    late = tickets.issue("a.example", HASH, "/x", 0.0)
    assert tickets.redeem(late, "a.example", TICKET_LIFETIME) is None


def test_of_too_many_tickets_the_oldest_goes() -> None:
    tickets = Tickets(random.Random(1).randbytes)
    first = tickets.issue("a.example", HASH, "/", 0.0)
    last = [tickets.issue("a.example", HASH, "/", 0.0) for _ in range(MAX_TICKETS)][-1]
    assert tickets.redeem(first, "a.example", 0.0) is None
    assert tickets.redeem(last, "a.example", 0.0) is not None
