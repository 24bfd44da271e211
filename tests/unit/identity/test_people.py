"""Names are DNS labels."""

import pytest

from coderd.identity.people import BadName, check_label, device_label, numbered_label


@pytest.mark.parametrize("name", ["a", "dev", "dev-2", "0", "a" * 63])
def test_a_dns_label_is_a_name(name: str) -> None:
    assert check_label(name) == name


@pytest.mark.parametrize(
    "name", ["", "-", "-a", "a-", "Dev", "a_b", "a.b", "a/b", "ä", "a\n", "a" * 64, " a", "٣"]
)
def test_anything_else_is_none(name: str) -> None:
    with pytest.raises(BadName):
        check_label(name)


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("Laptop.local", "laptop"),
        ("my_host", "my-host"),
        ("--x--", "x"),
        ("ÄÖÜ", "device"),
        ("", "device"),
        ("a" * 80, "a" * 63),
    ],
)
def test_a_host_name_becomes_a_label(host: str, label: str) -> None:
    assert device_label(host) == label
    assert check_label(device_label(host))


def test_further_machines_of_one_name_are_numbered() -> None:
    assert [numbered_label("laptop", number) for number in (1, 2, 10)] == ["laptop", "laptop-2", "laptop-10"]
    assert numbered_label("a" * 63, 12) == "a" * 60 + "-12"
