"""What ``coderctl`` says of shares: terms, ends, and warnings beside the result."""

from uuid import UUID

import pytest

from coderd.api.messages import ShareInfo, WorkspaceInfo
from coderd.cli.shares import share_facts, terms_text, warn


def share(ports: str, *, terminal: bool = False, opened: str = "") -> ShareInfo:
    return ShareInfo(
        user="bob",
        state="accepted",
        ports=ports,
        open_ports=opened or ports,
        terminal=terminal,
        created_at=0.0,
        lapses_at=None,
        expires_at=86400.0,
    )


def workspace(given: ShareInfo, *, enforces: bool | None) -> WorkspaceInfo:
    return WorkspaceInfo(
        id=UUID(int=1),
        name="dev",
        owner="ann",
        address="::1",
        online=enforces is not None,
        created_at=0.0,
        shares=[given],
        enforces=enforces,
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (share("all", terminal=True), "all ports and terminal"),
        (share("all"), "all ports, no terminal"),
        (share("none", terminal=True), "no ports, terminal"),
        (share("22,8000-8999"), "ports 22,8000-8999, no terminal"),
        (share("apps", opened="8080"), "the apps' ports (8080), no terminal"),
    ],
)
def test_terms_are_said_in_a_clause(given: ShareInfo, text: str) -> None:
    assert terms_text(given) == text


def test_an_end_is_said_with_the_terms() -> None:
    facts = share_facts(workspace(share("22"), enforces=True))
    assert facts == {"shared with bob": "ports 22, no terminal, until 1970-01-02 00:00:00Z"}


@pytest.mark.parametrize(
    ("given", "enforces", "said"),
    [
        (share("22"), False, ["does not enforce ports and terminals of shares"]),
        (share("22"), True, []),
        (share("22"), None, []),
        (
            share("all", terminal=True),
            False,
            ["as every share had before 0.2: restrict it with coderctl share dev"],
        ),
    ],
)
def test_guests_who_reach_more_than_people_may_think_are_named(
    given: ShareInfo, enforces: bool | None, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    warn(workspace(given, enforces=enforces))
    told = capsys.readouterr().err
    assert all(text in told for text in said)
    assert bool(told) == bool(said)
