"""Word of network changes from a real kernel, in a network namespace of its own.

```
 namespace:   a0 ---veth--- a1       coder0 and tun7 (TUN)
```
"""

import subprocess
import sys

import pytest
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

from coderd.magicsock.io import interfaces

SCRIPT = """
import subprocess, trio
from coderd.magicsock.io import interfaces
from coderd.magicsock.io.interfaces import watch_interfaces

interfaces.LOOK_INTERVAL = 0.01

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def settle():
    with trio.move_on_after(0.4):
        await trio.sleep_forever()

async def main():
    ip("link", "set", "lo", "up")
    ip("link", "add", "a0", "type", "veth", "peer", "name", "a1")
    for name in ("a0", "a1"):
        ip("link", "set", name, "up")
    for name in ("coder0", "tun7"):
        ip("tuntap", "add", name, "mode", "tun")
        ip("link", "set", name, "up")
    seen = []
    async def watch():
        async for view in watch_interfaces(ignore="coder0"):
            seen.append(view)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await settle()
        print(seen[0].addresses)
        ip("addr", "add", "10.9.0.1/24", "dev", "coder0")
        ip("addr", "add", "10.8.0.1/24", "dev", "tun7")
        ip("route", "add", "10.77.0.0/16", "dev", "coder0")
        await settle()
        print(all(view.is_same_way_out(seen[0]) for view in seen), seen[-1].tunnels)
        ip("addr", "add", "192.168.4.4/24", "dev", "a0")
        await settle()
        print(seen[-1].addresses)
        ip("route", "add", "default", "via", "192.168.4.1")
        await settle()
        print(seen[-1].default_routes[0][:2])
        ip("addr", "del", "192.168.4.4/24", "dev", "a0")
        await settle()
        print(seen[-1].addresses)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.netns
@pytest.mark.slow
def test_changes_of_real_interfaces_are_told_and_tunnels_change_no_way_out() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-W", "error", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "('127.0.0.1', '::1')",
        "True ('10.8.0.1',)",
        "('192.168.4.4',)",
        "(2, '192.168.4.1')",
        "('127.0.0.1', '::1')",
    ]


def test_a_look_at_tables_that_change_meanwhile_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    view = interfaces.NetworkView(("10.0.0.1",), ())
    outcomes: list[interfaces.NetworkView | Exception] = [
        NetlinkDumpInterrupted(),
        NetlinkDumpInterrupted(),
        view,
    ]

    def look_once(ignore: str) -> interfaces.NetworkView:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(interfaces, "_look_once", look_once)
    assert interfaces._look("coder0") == view
