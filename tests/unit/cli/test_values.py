import pytest

from coderd.cli.values import (
    LOOPBACKS,
    Forward,
    ago_text,
    latency_text,
    parse_duration,
    parse_forward,
    parse_forwards,
    size_text,
)
from coderd.model.errors import Exit, UserError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("5", 5),
        ("0.5", 0.5),
        ("0.5s", 0.5),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("2m", 120),
        ("1h", 3600),
    ],
)
def test_durations_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 s", "5x", "5s1m", "٥s", "1e9", "inf", "nan"])
def test_what_is_no_duration_is_wrong_usage(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_duration(text)
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("8080", Forward(LOOPBACKS, 8080, 8080)),
        ("8080:80", Forward(LOOPBACKS, 8080, 80)),
        ("127.0.0.1:8080", Forward(("127.0.0.1",), 8080, 8080)),
        ("0.0.0.0:8080:80", Forward(("0.0.0.0",), 8080, 80)),
        ("[::1]:8080:80", Forward(("::1",), 8080, 80)),
        ("[0::1]:8080", Forward(("::1",), 8080, 8080)),
    ],
)
def test_forwards_read_ip_local_remote(text: str, forward: Forward) -> None:
    assert parse_forward(text) == forward


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "80:0",
        "65536",
        "a",
        "80:b",
        ":80",
        "80:",
        "1.2.3:80",
        "1.2.3.400:80",
        "[::g]:80",
        "::1:80",
        "80:80:80",
    ],
)
def test_what_is_no_forward_is_wrong_usage(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_forward(text)
    assert caught.value.exit_code is Exit.USAGE


def test_one_place_is_listened_at_once() -> None:
    with pytest.raises(UserError, match="twice"):
        parse_forwards(["8080:80", "8080:81"])
    assert len(parse_forwards(["127.0.0.1:8080", "[::1]:8080"])) == 2
    with pytest.raises(UserError, match="no port"):
        parse_forwards([])


def test_the_first_address_is_the_one_that_is_shown() -> None:
    assert parse_forward("8080").listens_at == "127.0.0.1:8080"
    assert parse_forward("[::1]:8080").listens_at == "[::1]:8080"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_258_291, "1.2 MiB"),
        (2**30 - 1, "1.0 GiB"),
        (2**42, "4.0 TiB"),
    ],
)
def test_sizes(n_bytes: int, text: str) -> None:
    assert size_text(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "just now"), (12.9, "12s ago"), (60, "1m ago"), (7300, "2h ago"), (5 * 86400, "5d ago")],
)
def test_ages(seconds: float, text: str) -> None:
    assert ago_text(seconds) == text


def test_latencies() -> None:
    assert latency_text(0.4) == "<1ms"
    assert latency_text(11.6) == "12ms"
