"""Policy over the API: what is shared, who may change what, and what each change is answered."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from coderd.api.io.client import ApiClient
from coderd.api.io.machine import enrol_device
from coderd.api.messages import PREFIX
from coderd.api.rules import RULES, ResourceScope
from coderd.config.lifetimes import LifetimeOptions
from coderd.coordination.io.link_end import APPROVAL_INTERVAL, AWAITS_APPROVAL
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate
from coderd.model.paths import PathRule
from coderd.model.roles import Scope, UserRole
from tests.shell.server_world import JoinedNode, World, in_thread, serving


def new_key() -> NodePrivate:
    return NodePrivate.generate(os.urandom)


PATIENCE = 2.0
"""Seconds that any change of policy may take to reach a node."""


@dataclass
class Team:
    """Ann with a workspace, Bob with a device, both connected."""

    world: World
    ann: ApiClient
    bob: ApiClient
    dev: JoinedNode
    laptop: JoinedNode
    bob_token: str

    async def share(self) -> None:
        await in_thread(lambda: self.ann.share_workspace("dev", "bob"))
        await in_thread(lambda: self.bob.accept_share("ann/dev"))
        await self.laptop.until(lambda node: node.sees("ann/dev"), patience=PATIENCE)
        await self.dev.until(lambda node: node.sees("bob/laptop"), patience=PATIENCE)

    async def parted(self) -> None:
        """Waits until neither has the other."""
        await self.laptop.until(lambda node: "ann/dev" not in node.peers, patience=PATIENCE)
        await self.dev.until(lambda node: "bob/laptop" not in node.peers, patience=PATIENCE)


@asynccontextmanager
async def team(directory: Path) -> AsyncIterator[Team]:
    async with serving(directory) as world, trio.open_nursery() as nursery:
        ann = ApiClient(world.url, await world.add_user("ann"))
        bob = ApiClient(world.url, bob_token := await world.add_user("bob"))
        key = NodePrivate.generate(os.urandom)
        device = await enrol_device(world.url, bob_token, name="laptop", node_key=key.public())
        created = await in_thread(lambda: ann.create_workspace("dev"))
        nodes = JoinedNode(created.token), JoinedNode(device.token, key)

        async def run(node: JoinedNode) -> None:
            with suppress(UserError):  # refused: what some tests are about
                await node.client(world.url).run()

        for node in nodes:
            nursery.start_soon(run, node)
            await node.until(lambda node: node.is_connected)
        yield Team(world, ann, bob, *nodes, bob_token)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_shared_workspace_is_met_and_an_unshared_one_gone_at_both_ends(tmp_path: Path) -> None:
    async with team(tmp_path) as pair:
        await pair.share()
        assert [space.owner for space in await in_thread(pair.bob.list_workspaces)] == ["ann"]
        await in_thread(lambda: pair.ann.unshare_workspace("dev", "bob"))
        await pair.parted()
        assert pair.laptop.netmap is not None
        assert pair.laptop.netmap.absent == {}
        assert await in_thread(pair.bob.list_workspaces) == []
        await pair.share()


@pytest.mark.slow
async def test_only_a_sign_in_makes_users_and_gives_roles(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        made = await in_thread(lambda: world.admin.create_token("session", "ci", lifetime=60))
        for method, path, body in (
            ("POST", "/users", {"name": "eve", "role": "owner"}),
            ("PATCH", "/users/admin", {"role": "owner"}),
        ):
            answer = await world.ask(method, PREFIX + path, made.token, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "needs_sign_in")
        child = await in_thread(lambda: ApiClient(world.url, made.token).create_token("session", "x"))
        assert child.info.expires_at == made.info.expires_at
        assert [user.name for user in await in_thread(world.admin.list_users)] == ["admin"]


@pytest.mark.slow
async def test_an_admin_ends_anothers_sessions_and_lets_them_in_anew(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        anns = await world.add_user("ann")
        ann, bob = ApiClient(world.url, anns), ApiClient(world.url, await world.add_user("bob"))
        eve = ApiClient(
            world.url, (await in_thread(lambda: world.admin.create_user("eve", UserRole.ADMIN))).token
        )
        made = await in_thread(lambda: ann.create_token("session", "ci"))
        device = await enrol_device(world.url, made.token, name="laptop", node_key=new_key().public())
        (first,) = [each for each in await in_thread(lambda: eve.list_user_tokens("ann")) if each.is_sign_in]
        told = await in_thread(lambda: eve.token_descent(str(first.id), user="ann"))
        assert {each.id for each in told} == {first.id, made.info.id}
        for act in (
            lambda: bob.list_user_tokens("ann"),
            lambda: bob.revoke_token(str(first.id), user="ann"),
            lambda: bob.give_sign_in("ann"),
            lambda: eve.list_user_tokens("admin"),
            lambda: eve.give_sign_in("admin"),
            lambda: bob.approve_device("ann/laptop"),
        ):
            with pytest.raises(UserError):
                await in_thread(act)
        ended = await in_thread(lambda: eve.revoke_token(str(first.id), user="ann", nodes=True))
        assert {each.id for each in ended} == {
            first.id,
            made.info.id,
            *(each.id for each in ended if each.node),
        }
        assert len(ended) == 3
        for token in (anns, made.token, device.token):
            assert (await world.ask("GET", PREFIX + "/reflection", token)).status_code == 401
        given = await in_thread(lambda: eve.give_sign_in("ann"))
        again = ApiClient(world.url, given.token)
        assert (await in_thread(again.me)).name == "ann"
        assert [each.is_sign_in for each in await in_thread(again.list_tokens)] == [True]
        actions = [entry.action for entry in (await in_thread(world.admin.audit)).entries]
        assert actions[:4] == ["session.issue", "token.revoke", "token.revoke", "token.revoke"]


@pytest.mark.slow
async def test_a_device_that_waits_is_told_so_and_joins_once_it_is_approved(tmp_path: Path) -> None:
    waiting = LifetimeOptions(needs_approval=True)
    async with serving(tmp_path, lifetimes=waiting) as world, trio.open_nursery() as nursery:
        key = new_key()
        device = await enrol_device(world.url, world.admin_token, name="laptop", node_key=key.public())
        assert device.is_waiting
        laptop = JoinedNode(device.token, key)
        nursery.start_soon(laptop.client(world.url).run)
        await laptop.until(lambda node: bool(node.states))
        assert laptop.states[-1].reason == AWAITS_APPROVAL
        (listed,) = await in_thread(world.admin.list_devices)
        assert (listed.is_waiting, listed.online) == (True, False)
        verdict = await world.ask("POST", "/derp/verify", json={"NodePublic": key.public().text})
        assert verdict.json() == {"Allow": False}
        assert not (await in_thread(lambda: world.admin.approve_device("laptop"))).is_waiting
        await laptop.until(lambda node: node.is_connected, patience=APPROVAL_INTERVAL + 5)
        nursery.cancel_scope.cancel()


# Roles


async def test_an_admin_manages_members_and_nobody_above(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        owner = world.admin
        eve = ApiClient(
            world.url, (await in_thread(lambda: owner.create_user("eve", role=UserRole.ADMIN))).token
        )
        await in_thread(lambda: eve.create_user("ann"))
        await in_thread(lambda: eve.change_user("ann", name="anna"))
        for act in (
            lambda: eve.create_user("bob", role=UserRole.ADMIN),
            lambda: eve.create_user("bob", role=UserRole.OWNER),
            lambda: eve.change_user("anna", role=UserRole.ADMIN),
            lambda: eve.change_user("eve", role=UserRole.OWNER),
            lambda: eve.change_user("admin", name="root"),
            lambda: eve.delete_user("admin"),
        ):
            with pytest.raises(UserError) as caught:
                await in_thread(act)
            assert caught.value.code == "forbidden"
        assert [(user.name, user.role) for user in await in_thread(owner.list_users)] == [
            ("admin", "owner"),
            ("anna", "member"),
            ("eve", "admin"),
        ]
        with pytest.raises(UserError) as caught:
            await in_thread(lambda: owner.change_user("admin", role=UserRole.MEMBER))
        assert caught.value.code == "last_owner"


async def test_a_demoted_admin_is_one_no_more_at_the_next_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        owner = world.admin
        eve = ApiClient(
            world.url, (await in_thread(lambda: owner.create_user("eve", role=UserRole.ADMIN))).token
        )
        assert await in_thread(eve.list_users)
        await in_thread(lambda: owner.change_user("eve", role=UserRole.MEMBER))
        with pytest.raises(UserError) as caught:
            await in_thread(eve.list_users)
        assert caught.value.code == "forbidden"


# Tokens


async def test_a_token_is_held_to_its_scope_and_to_the_life_of_its_maker(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        owner = world.admin
        short = await in_thread(lambda: owner.create_token("session", "short", lifetime=60))
        maker = ApiClient(world.url, short.token)
        made = await in_thread(lambda: maker.create_token("session", "long", lifetime=3600, scope=Scope.READ))
        assert made.info.expires_at is not None
        assert made.info.expires_at == short.info.expires_at
        reader = ApiClient(world.url, made.token)
        assert (await in_thread(reader.me)).name == "admin"
        with pytest.raises(UserError) as caught:
            await in_thread(lambda: reader.create_workspace("dev"))
        assert caught.value.code == "out_of_scope"
        listed = await world.ask("GET", PREFIX + "/tokens", world.admin_token)
        assert short.token not in listed.text
        assert "long" in listed.text


@pytest.mark.slow
async def test_of_100_clients_with_one_single_use_key_one_joins(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        join = (await in_thread(lambda: world.admin.create_token("join", "once"))).token
        answers: list[httpx.Response] = []

        async def attempt(client: httpx.AsyncClient) -> None:
            answers.append(await client.post(PREFIX + "/join", json={"name": "builder"}))

        async with (
            httpx.AsyncClient(
                base_url=world.url,
                headers={"authorization": f"Bearer {join}"},
                timeout=60,
                limits=httpx.Limits(max_connections=100),
            ) as client,
            trio.open_nursery() as nursery,
        ):
            for _ in range(100):
                nursery.start_soon(attempt, client)
        assert sorted({answer.status_code for answer in answers}) in ([201, 401], [201, 401, 429])
        (won,) = [answer for answer in answers if answer.status_code == 201]
        (space,) = await in_thread(world.admin.list_workspaces)
        assert (space.owner, space.name) == ("admin", "builder")
        node = JoinedNode(won.json()["token"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.client(world.url).run)
            await node.until(lambda node: node.is_connected)
            nursery.cancel_scope.cancel()


# Guessing, and the log of who changed what


@pytest.mark.slow
async def test_who_guesses_is_refused_and_who_is_known_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        ann = await world.add_user("ann")
        assert (await world.ask("GET", PREFIX + "/users/me", ann)).status_code == 200
        statuses = [
            (await world.ask("GET", PREFIX + "/users/me", f"cdrs_guess{number}")).status_code
            for number in range(25)
        ]
        assert statuses[:20] == [401] * 20
        assert statuses[-1] == 429
        refused = await world.ask("GET", PREFIX + "/users/me", "cdrs_one-more")
        assert refused.headers["retry-after"]
        assert refused.json()["code"] == "too_many_attempts"
        assert (await world.ask("GET", PREFIX + "/users/me", ann)).status_code == 200


async def test_the_audit_log_says_who_changed_what_from_where_in_pages(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        await world.add_workspace("dev")
        await in_thread(lambda: world.admin.change_workspace("dev", path=PathRule.DENY))
        await in_thread(lambda: world.admin.delete_workspace("dev"))
        first = await in_thread(lambda: world.admin.audit(limit=2))
        assert [entry.action for entry in first.entries] == ["workspace.delete", "workspace.path"]
        assert {(entry.actor, entry.source) for entry in first.entries} == {("admin", "127.0.0.1")}
        rest = await in_thread(lambda: world.admin.audit(before=first.next, limit=10))
        assert [entry.action for entry in rest.entries] == ["workspace.create", "user.create"]
        assert rest.next is None


BAD = {"html": "<b>x</b>", "control": "a\x00b", "dots": "..", "long": "a" * 64, "option": "-i", "case": "Dev"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
async def test_a_bad_name_is_refused_everywhere_and_nothing_changes(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as world:
        await world.add_workspace("dev")
        before = await in_thread(world.admin.audit)
        for method, path, body in (
            ("POST", "/workspaces", {"name": name}),
            ("PATCH", "/workspaces/dev", {"name": name}),
            ("POST", "/users", {"name": name}),
            ("PATCH", "/users/admin", {"name": name}),
            ("POST", "/tokens", {"kind": "session", "name": name}),
        ):
            answer = await world.ask(method, PREFIX + path, world.admin_token, json=body)
            assert (answer.status_code, answer.json()["code"]) in ((400, "bad_name"), (400, "bad_request"))
        assert await in_thread(world.admin.audit) == before


# ResourceScope, generated from the table


REACHED = {
    ResourceScope.SEEN: {"guest", "admin", "owner"},
    ResourceScope.MANAGED: {"admin", "owner"},
    ResourceScope.OWN: set(),
}
"""Who besides its owner may name a workspace of ann's that is shared with guest."""


@pytest.mark.slow
async def test_a_bare_name_in_a_path_is_ones_own_or_nobodys(tmp_path: Path) -> None:
    """Neither a guest nor an admin means another's workspace by its name alone, not even where they have none."""
    async with serving(tmp_path) as world:
        anns, guests = await world.add_user("ann"), await world.add_user("guest")
        await world.add_workspace("dev", anns)
        ann, guest = ApiClient(world.url, anns), ApiClient(world.url, guests)
        await in_thread(lambda: ann.share_workspace("dev", "guest"))
        await in_thread(lambda: guest.accept_share("ann/dev"))
        for token in (guests, world.admin_token):
            for method in ("GET", "PATCH", "DELETE"):
                answer = await world.ask(method, f"{PREFIX}/workspaces/dev", token, content=b"{}")
                assert answer.status_code == 404
        told = await world.ask("GET", f"{PREFIX}/workspaces/dev", guests)
        assert "ann/dev" in told.json()["hint"]
        await world.add_workspace("dev", guests)
        own = await world.ask("GET", f"{PREFIX}/workspaces/dev", guests)
        assert own.json()["owner"] == "guest"


async def test_what_a_path_names_is_reached_as_the_table_says(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        callers = {name: await world.add_user(name) for name in ("ann", "guest", "stranger")}
        eve = await in_thread(lambda: world.admin.create_user("eve", role=UserRole.ADMIN))
        callers |= {"admin": eve.token, "owner": world.admin_token}
        await world.add_workspace("dev", callers["ann"])
        ann = ApiClient(world.url, callers["ann"])
        guest = ApiClient(world.url, callers["guest"])
        await in_thread(lambda: ann.share_workspace("dev", "guest"))
        await in_thread(lambda: guest.accept_share("ann/dev"))
        paths = ("/workspaces/{key}", "/workspaces/{key}/shares/{user}")
        rules = [rule for rule in RULES if rule.path in paths]
        harmless = [rule for rule in rules if rule.operation != "delete_workspace"]
        for rule in [*harmless, *(rule for rule in rules if rule not in harmless)]:
            path = PREFIX + rule.path.replace("{key}", "ann~dev").replace("{user}", "nobody")
            for name, token in callers.items():
                may = name in REACHED[rule.reach] or name == "ann"
                if may and rule.operation == "delete_workspace":
                    continue
                with capture_logs() as logs:
                    answer = await world.ask(rule.method, path, token, content=b"{}")
                is_hidden = answer.status_code == 404 and "you have no workspace" in answer.text
                assert is_hidden != may, (rule.operation, name, answer.text)
                refusals = [entry for entry in logs if entry["event"] == "api_refused"]
                assert len(refusals) == (answer.status_code >= 400)
                assert all(entry["user_id"] for entry in refusals)
