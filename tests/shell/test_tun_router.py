"""The router's part that is no netlink: IPv6 switched on for one interface. The rest is in netns-tests."""

from ipaddress import ip_interface
from pathlib import Path

import pytest

from coderd.model.errors import UserError
from coderd.tun.io.router import Router

INTERFACE = "absent0"
"""No interface has this name, so netlink is reached and says so, once the settings have been seen to."""

ADDRESS = ip_interface("fd77::1/128")


def switch(sysctl: Path, value: str) -> Path:
    folder = sysctl / "net/ipv6/conf" / INTERFACE
    folder.mkdir(parents=True)
    (folder / "disable_ipv6").write_text(value + "\n")
    return folder / "disable_ipv6"


@pytest.mark.parametrize(("before", "after"), [("1", "0"), ("0", "0\n")])
async def test_ipv6_is_switched_on_where_it_is_off(tmp_path: Path, before: str, after: str) -> None:
    file = switch(tmp_path, before)
    with pytest.raises(OSError, match="no interface"):
        await Router(INTERFACE, sysctl=tmp_path).configure([ADDRESS], 1280)
    assert file.read_text() == after


async def test_ipv4_needs_no_ipv6(tmp_path: Path) -> None:
    file = switch(tmp_path, "1")
    with pytest.raises(OSError, match="no interface"):
        await Router(INTERFACE, sysctl=tmp_path).configure([ip_interface("10.77.0.1/24")], 576)
    assert file.read_text() == "1\n"


async def test_a_kernel_without_ipv6_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="IPv6 is switched off on this machine") as raised:
        await Router(INTERFACE, sysctl=tmp_path).configure([ADDRESS], 1280)
    assert raised.value.code == "no_ipv6"
    assert INTERFACE in raised.value.hint


async def test_ipv6_needs_an_mtu_of_1280(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1279 is too small"):
        await Router(INTERFACE, sysctl=tmp_path).configure([ADDRESS], 1279)
