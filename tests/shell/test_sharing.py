"""Sharing by the API: what each side is answered, what a server's options change, and who is told to be at a workspace."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest
import trio

from coderd.api.io.client import ApiClient
from coderd.api.messages import PREFIX
from coderd.config.sharing import SharingOptions
from coderd.identity.people import Node, User
from coderd.identity.visits import Visits
from coderd.model.errors import UserError
from coderd.model.netmap import Capability, NodeKind
from coderd.server.directory import Directory
from coderd.server.handlers.describing import describe_connections
from tests.shell.server_world import JoinedNode, World, in_thread, serving

SHARES = PREFIX + "/workspaces/dev/shares"


async def two(world: World) -> tuple[ApiClient, ApiClient, str]:
    """Ann, who has dev, and bob; and ann's token."""
    token = await world.add_user("ann")
    ann, bob = ApiClient(world.url, token), ApiClient(world.url, await world.add_user("bob"))
    await world.add_workspace("dev", token)
    return ann, bob, token


async def test_an_offer_to_nobody_is_answered_as_one_to_somebody(tmp_path: Path) -> None:
    async with serving(tmp_path, sharing=SharingOptions(max_given=2)) as world:
        ann, _, token = await two(world)
        told = []
        for number, name in enumerate(("bob", "nobody")):
            answer = await world.ask("PUT", f"{SHARES}/{name}", token)
            body = answer.json()
            share = {key: value for key, value in body["shares"][number].items() if not key.endswith("_at")}
            assert share.pop("user") == name
            told.append((answer.status_code, share, body["shared_with"]))
        assert told[0] == told[1]
        refused = [await world.ask("PUT", f"{SHARES}/{name}", token) for name in ("admin", "nobody-else")]
        assert [(each.status_code, each.json()["code"]) for each in refused] == [(409, "too_many_shares")] * 2
        assert refused[0].content == refused[1].content
        for name in ("bob", "nobody"):
            assert (await in_thread(lambda name=name: ann.unshare_workspace("dev", name))).shared_with == []  # type: ignore[misc]
        assert (await in_thread(lambda: ann.get_workspace("dev"))).shares == []


async def test_a_client_that_says_no_terms_gets_narrow_ones_and_widens_and_narrows_none(
    tmp_path: Path,
) -> None:
    """As a client of an earlier release, whose request has no body."""
    async with serving(tmp_path) as world:
        ann, bob, token = await two(world)
        assert (await world.ask("PUT", f"{SHARES}/bob", token)).status_code == 200
        accepted = await in_thread(lambda: bob.accept_share("ann/dev"))
        assert (accepted.ports, accepted.open_ports, accepted.terminal) == ("apps", "none", False)
        await in_thread(lambda: ann.share_workspace("dev", "bob", ports="all", terminal=True))
        assert (await world.ask("PUT", f"{SHARES}/bob", token)).status_code == 200
        (share,) = await in_thread(bob.list_shares)
        assert (share.state, share.ports, share.terminal) == ("accepted", "all", True)


async def test_an_offer_is_answered_by_its_guest_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        ann, bob, _ = await two(world)
        carl = ApiClient(world.url, await world.add_user("carl"))
        dev = await in_thread(lambda: ann.share_workspace("dev", "bob"))
        for other in (carl, ann, world.admin):
            for key in ("ann/dev", str(dev.id)):
                for act in (other.accept_share, other.leave_share):
                    with pytest.raises(UserError) as caught:
                        await in_thread(lambda act=act, key=key: act(key))  # type: ignore[misc]
                    assert caught.value.code == "not_found"
        with pytest.raises(UserError, match="name its owner too"):
            await in_thread(lambda: bob.accept_share("dev"))
        with pytest.raises(UserError) as hidden:
            await in_thread(lambda: bob.get_workspace("ann/dev"))
        assert hidden.value.code == "not_found"
        assert (await in_thread(lambda: bob.accept_share(str(dev.id)))).state == "accepted"


async def test_a_server_may_accept_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, sharing=SharingOptions(accepts=True)) as world:
        ann, bob, _ = await two(world)
        assert (await in_thread(lambda: ann.share_workspace("dev", "bob"))).shared_with == ["bob"]
        assert [each.name for each in await in_thread(bob.list_workspaces)] == ["dev"]


@pytest.mark.slow
@pytest.mark.parametrize(("capabilities", "enforces"), [((), False), ((Capability.PACKET_FILTER,), True)])
async def test_it_is_said_whether_a_workspace_can_keep_its_guests_to_their_share(
    tmp_path: Path, capabilities: tuple[str, ...], enforces: bool
) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        token = await world.add_workspace("dev")
        shared = await in_thread(lambda: world.admin.share_workspace("dev", "bob"))
        assert shared.enforces is None
        node = JoinedNode(token, capabilities=capabilities)
        nursery.start_soon(node.client(world.url).run)
        await node.until(lambda node: node.is_connected)
        shared = await in_thread(lambda: world.admin.share_workspace("dev", "bob"))
        assert shared.enforces is enforces
        nursery.cancel_scope.cancel()


async def test_who_is_at_a_workspace_is_listed_by_user_with_what_they_have_open() -> None:
    ann, bob = User(UUID(int=1), "ann"), User(UUID(int=2), "bob")
    dev = Node(UUID(int=9), NodeKind.WORKSPACE, "dev", ann, 0.0)
    lab = Node(UUID(int=7), NodeKind.WORKSPACE, "lab", ann, 0.0)
    laptop = Node(UUID(int=8), NodeKind.DEVICE, "laptop", bob, 0.0)
    visits = Visits(lambda: 500.0)
    reports = SimpleNamespace(tunnels=lambda _node, _now: [(laptop, "direct", 60.0)])
    registry = SimpleNamespace(path_reports=reports)
    directory = cast(Directory, SimpleNamespace(registry=registry, visits=visits))
    with (
        visits.during(ann, dev),
        visits.during(bob, dev, "docs"),
        visits.during(None, dev, "site"),
        visits.during(bob, dev, "docs"),  # a page of many parts is one visit
        visits.during(bob, lab, "elsewhere"),
    ):
        found = describe_connections(directory, dev)
    assert [(each.user, each.device, each.kind, each.what, each.path, each.is_owner) for each in found] == [
        ("", "", "app", "site", "", False),
        ("ann", "", "terminal", "", "", True),
        ("bob", "", "app", "docs", "", False),
        ("bob", "laptop", "tunnel", "", "direct", False),
    ]
    assert found[0].since == 500.0
    assert [each.kind for each in describe_connections(directory, dev)] == ["tunnel"]
