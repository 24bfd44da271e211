"""The dashboard of a real server, by hand: who sees what, which forms count, and that nothing gets through as markup."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

import httpx
import pytest

from coderd.api.io.client import ApiClient
from coderd.config.apps import AppOptions
from coderd.config.lifetimes import LifetimeOptions
from coderd.model.keys import NodePrivate
from tests.csp import allows
from tests.shell.server_world import World, in_thread, serving

pytestmark = pytest.mark.slow

HOST = "server.example:3000"
ORIGIN = f"http://{HOST}"


class Browser:
    """Somebody's browser: it keeps cookies, says where a form comes from, and follows nothing by itself."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.csrf = ""

    async def get(self, path: str, **headers: str) -> httpx.Response:
        page = await self.client.get(
            path, headers={key.replace("_", "-"): each for key, each in headers.items()}
        )
        found = re.search(r'name="csrf" value="(\w+)"', page.text)
        self.csrf = found.group(1) if found else self.csrf
        return page

    async def post(
        self, path: str, headers: dict[str, str] | None = None, /, **fields: str
    ) -> httpx.Response:
        form = {"csrf": self.csrf, **fields}
        return await self.client.post(path, data=form, headers={"origin": ORIGIN, **(headers or {})})

    async def sign_in(self, token: str) -> httpx.Response:
        answer = await self.post("/login", token=token, next="/")
        await self.get("/")
        return answer


@asynccontextmanager
async def browser(world: World, token: str = "", host: str = HOST) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(base_url=world.url, headers={"host": host}, timeout=10) as client:
        made = Browser(client)
        if token:
            assert (await made.sign_in(token)).status_code == 303
        yield made


async def test_a_person_signs_in_makes_a_workspace_shares_it_and_signs_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, browser(world) as someone:
        first = await someone.get("/tokens?x=1")
        assert (first.status_code, first.headers["location"]) == (303, "/login?next=%2Ftokens%3Fx%3D1")
        assert (await someone.sign_in("cdrs_wrong")).status_code == 401
        signed_in = await someone.sign_in(world.admin_token)
        assert signed_in.headers["location"] == "/"
        bobs = await world.add_user("bob")

        made = await someone.post("/workspaces/create", name="dev")
        line = unescape(re.search(r'<pre class="secret">(.*?)</pre>', made.text, re.DOTALL)[1])  # type: ignore[index]
        assert re.fullmatch(
            r"echo cdrw_[\w-]+ \| sudo coderd run --access-url http://server\.example:3000 --insecure --token-file -",
            line,
        )
        assert made.headers["cache-control"] == "no-store"
        page = await someone.get("/")
        assert line.split()[1] not in page.text
        key = re.search(r'name="key" value="([0-9a-f-]{36})"', page.text)[1]  # type: ignore[index]

        assert (await someone.post("/workspaces/share", key=key, user="bob")).headers["location"] == "/"
        shown = (await someone.get("/")).text
        assert "Revoke bob's share" in shown
        assert "Offered to bob</dt><dd>the apps' ports (none), no terminal" in shown.replace("\n", "")
        async with browser(world, bobs) as bob:
            assert "admin/dev" in (await bob.get("/shared")).text
            assert (await bob.post("/shared/accept", key="admin~dev")).headers["location"] == "/shared"
            assert "Leave admin/dev" in (await bob.get("/shared")).text
            assert (await bob.get(f"/connections?key={key}")).status_code == 404
        narrowed = {"ports": "22,80", "terminal": "true", "lifetime": "86400"}
        assert (await someone.post("/workspaces/share", key=key, user="bob", **narrowed)).status_code == 303
        assert "Shared with bob</dt><dd>ports 22,80, terminal" in (await someone.get("/")).text.replace(
            "\n", ""
        )
        connections = await someone.get(f"/connections?key={key}")
        assert "There are no connections" in connections.text
        assert_the_policy_covers(connections)
        assert (await someone.post("/workspaces/path", key=key, path="relay-only")).status_code == 303
        assert "offline, relay-only" in (await someone.get("/")).text
        assert "offline, relay-only" in (await someone.get("/?find=min/DE")).text
        assert "No such workspace." in (await someone.get("/?find=<b>")).text
        refused = await someone.post("/workspaces/create", name="dev")
        assert refused.status_code == 409
        assert "Not done" in refused.text
        assert (await someone.post("/workspaces/create", name="a b")).status_code == 400
        assert (await someone.post("/workspaces/create")).status_code == 400
        assert (await someone.post("/workspaces/delete", key=key)).status_code == 303
        assert "No workspaces yet" in (await someone.get("/")).text

        audit = (await someone.get("/audit")).text
        for action in ("workspace.create", "workspace.share", "workspace.delete", "session.open"):
            assert action in audit
        assert (await someone.post("/logout")).headers["location"] == "/login"
        someone.client.cookies.clear()
        assert (await someone.get("/")).status_code == 303


async def test_every_page_is_shown_to_who_may_have_its_answers_and_to_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        bobs = await world.add_user("bob")
        async with browser(world, world.admin_token) as admin, browser(world, bobs) as bob:
            for path in ("/", "/users", "/tokens", "/health", "/audit", "/used"):
                page = await admin.get(path)
                assert page.status_code == 200, path
                assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src ")
                assert "unsafe" not in page.headers["content-security-policy"]
                assert_the_policy_covers(page)
                assert page.headers["x-content-type-options"] == "nosniff"
                assert re.search(rf'href="{path}" aria-current', page.text)
            own = (await bob.get("/")).text
            assert "/users" not in own
            assert "/audit" not in own
            for path in ("/users", "/health", "/audit", "/used", "/?all=true"):
                assert (await bob.get(path)).status_code == 403, path
            assert (await bob.post("/users/create", name="eve", role="member")).status_code == 403
            made = await admin.post("/users/create", name="eve", role="member")
            token = re.search(r"cdrs_[\w-]+", made.text)[0]  # type: ignore[index]
            async with browser(world, token) as eve:
                assert (await eve.get("/")).status_code == 200


def assert_the_policy_covers(page: httpx.Response) -> None:
    """All that the page refers to, and no path app."""
    policy = page.headers["content-security-policy"]
    wanted = {
        "script-src": re.findall(r'<script[^>]* src="([^"]+)"', page.text),
        "style-src": re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text),
        "form-action": re.findall(r'<form[^>]* action="([^"]+)"', page.text),
        "connect-src": re.findall(r'data-live="([^"]*)"', page.text),
    }
    for directive, paths in wanted.items():
        assert [path for path in paths if not allows(policy, directive, ORIGIN + path, ORIGIN)] == []
        assert not allows(policy, directive, f"{ORIGIN}/@bob/dev/apps/8000/x", ORIGIN)


async def test_only_forms_of_this_very_session_change_anything(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        bobs = await world.add_user("bob")
        async with browser(world, world.admin_token) as admin, browser(world, bobs) as bob:
            own = admin.csrf
            for csrf in ("", bob.csrf, own[:-1], own + "x", "ü"):
                assert (await admin.post("/workspaces/create", name="dev", csrf=csrf)).status_code == 403
            foreign = (
                {"origin": "http://evil.example"},
                {"origin": "null"},
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site"},
            )
            for headers in foreign:
                assert (
                    await admin.post("/workspaces/create", headers, name="dev", csrf=own)
                ).status_code == 403
            json = await admin.client.post("/workspaces/create", json={"name": "dev", "csrf": own})
            assert json.status_code == 403
            assert (await admin.post("/logout", csrf="x")).status_code == 403
            assert (await admin.get("/workspaces/create")).status_code == 303
            workspaces = await in_thread(lambda: ApiClient(world.url, world.admin_token).list_workspaces())
            assert workspaces == []


async def test_another_name_of_this_machine_is_told_the_right_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        async with browser(world, world.admin_token) as admin:
            cookies = dict(admin.client.cookies)
        async with browser(world, host="rebound.example") as rebound:
            rebound.client.cookies.update(cookies)
            for path in ("/", "/login", "/audit", "/open"):
                page = await rebound.get(path)
                assert (page.status_code, ORIGIN in page.text) == (421, True), path
            assert (await rebound.post("/workspaces/create", name="dev", csrf=admin.csrf)).status_code == 421
            assert (await rebound.client.get("/healthz")).status_code == 200


async def test_a_session_that_is_revoked_elsewhere_is_signed_out_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        bobs = await world.add_user("bob")
        async with browser(world, world.admin_token) as admin, browser(world, bobs) as bob:
            assert (await bob.get("/")).status_code == 200
            users = (await admin.get("/users")).text
            key = re.search(r'action="/users/delete".*?name="key" value="([^"]+)"', users, re.DOTALL)[1]  # type: ignore[index]
            assert (await admin.post("/users/delete", key=key)).status_code == 303
            assert (await bob.get("/")).status_code == 303
            assert (await bob.post("/workspaces/create", name="dev")).headers["location"] == "/login?next=%2F"


async def test_what_others_have_written_is_shown_and_does_nothing(tmp_path: Path) -> None:
    evil = '<img src=x onerror="alert(1)">'
    async with serving(tmp_path) as world, browser(world, world.admin_token) as admin:
        for answer in (
            await admin.post("/workspaces/create", name=evil),
            await admin.post("/workspaces/share", key=evil, user=evil),
            await admin.get("/audit?before=" + evil),
            await admin.get("/login?next=" + evil),
        ):
            assert answer.status_code in (200, 303, 400, 404)
            assert "<img" not in answer.text
        led = await admin.get("/open?owner=admin&workspace=dev&app=80/../../audit")
        assert led.status_code == 400
        assert (await admin.get("/open?owner=admin&workspace=dev&app=8080")).headers["location"] == (
            "/@admin/dev/apps/8080/"
        )
        assert (await admin.get("/static/../table.py")).status_code == 404
        style = await admin.get("/static/dashboard.css")
        assert style.headers["content-type"].startswith("text/css")
        assert (
            await admin.get("/static/dashboard.css", if_none_match=style.headers["etag"])
        ).status_code == 304


async def test_while_apps_are_trusted_with_the_site_nothing_is_changed_there(tmp_path: Path) -> None:
    apps = AppOptions(has_path_apps=True, trusts_path_apps=True)
    async with serving(tmp_path, apps=apps) as world, browser(world, world.admin_token) as admin:
        page = (await admin.get("/")).text
        assert "The dashboard is read-only" in page
        assert "/workspaces/create" not in page
        refused = await admin.post("/workspaces/create", name="dev")
        assert (refused.status_code, "coderctl" in refused.text) == (403, True)


async def test_an_admin_sees_anothers_sessions_ends_them_and_approves_a_device(tmp_path: Path) -> None:
    waiting = LifetimeOptions(needs_approval=True)
    async with serving(tmp_path, lifetimes=waiting) as world, browser(world, world.admin_token) as admin:
        anns = await world.add_user("ann")
        await world.enrol(NodePrivate.generate(os.urandom), anns)
        page = (await admin.get("/?all=true")).text
        key = re.search(r"Approve laptop", page) and re.search(
            r'action="/devices/approve".*?name="key" value="([0-9a-f-]{36})"', page, re.DOTALL
        )
        assert key
        assert (await admin.post("/devices/approve", key=key[1])).status_code == 303
        assert "waits for approval" not in (await admin.get("/?all=true")).text
        user = re.search(
            r"/users/tokens\?key=([0-9a-f-]{36})\">Tokens", (await admin.get("/users?find=ann")).text
        )
        assert user
        shown = (await admin.get(f"/users/tokens?key={user[1]}")).text
        sign_in = re.search(r'<tr id="([0-9a-f-]{36})"><td><strong>sign-in', shown)
        assert sign_in
        assert "ann/laptop" in shown
        form = {"key": user[1], "id": sign_in[1], "nodes": "true"}
        assert (await admin.post("/users/tokens/revoke", **form)).status_code == 303
        assert "<tr id" not in (await admin.get(f"/users/tokens?key={user[1]}")).text
        given = await admin.post("/users/sign-in", key=user[1])
        token = re.search(r'<pre class="secret">(cdrs_[\w-]+)', given.text)
        assert token
        async with browser(world, token[1]) as ann:
            assert (await ann.get("/tokens")).status_code == 200
            made = await ann.post("/tokens/create", kind="session", name="x", scope="all", lifetime="86400")
            child = re.search(r'<pre class="secret">(cdrs_[\w-]+)', made.text)
        assert child
        async with browser(world, child[1]) as bound:
            assert (await bound.post("/users/sign-in", key=user[1])).status_code == 403
