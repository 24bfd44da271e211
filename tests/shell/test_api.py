"""The API over real sockets: every route for every kind of caller, bounds, and errors that programs can read."""

import gzip
import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trio

from coderd.api.io.client import ApiClient
from coderd.api.io.machine import ask_reflection, enrol_device, remove_device
from coderd.api.messages import MAX_ANSWER, MAX_BODY, PREFIX, ErrorBody, parse_message
from coderd.api.rules import RULES
from coderd.model.errors import Exit, UserError
from coderd.model.keys import NodePrivate
from coderd.model.roles import Role, UserRole
from tests.shell.server_world import JoinedNode, World, in_thread, serving

SESSION = {Role.MEMBER, Role.ADMIN, Role.OWNER}
MANAGERS = {Role.ADMIN, Role.OWNER}
ROUTES = {
    ("GET", "/healthz"): set(Role),
    ("GET", "/openapi.json"): set(Role),
    ("GET", "/users/me"): SESSION,
    ("DELETE", "/sessions/me"): SESSION,
    ("GET", "/users"): MANAGERS,
    ("POST", "/users"): MANAGERS,
    ("GET", "/users/{key}"): SESSION,
    ("PATCH", "/users/{key}"): MANAGERS,
    ("DELETE", "/users/{key}"): MANAGERS,
    ("GET", "/workspaces"): SESSION,
    ("POST", "/workspaces"): SESSION,
    ("GET", "/workspaces/{key}"): SESSION,
    ("PATCH", "/workspaces/{key}"): SESSION,
    ("DELETE", "/workspaces/{key}"): SESSION,
    ("PUT", "/workspaces/{key}/shares/{user}"): SESSION,
    ("DELETE", "/workspaces/{key}/shares/{user}"): SESSION,
    ("GET", "/workspaces/{key}/connections"): SESSION,
    ("GET", "/shares"): SESSION,
    ("PUT", "/shares/{key}"): SESSION,
    ("DELETE", "/shares/{key}"): SESSION,
    ("GET", "/workspaces/{key}/apps"): SESSION,
    ("POST", "/workspaces/{key}/apps"): SESSION,
    ("DELETE", "/workspaces/{key}/apps/{app}"): SESSION,
    ("POST", "/join"): {Role.JOIN},
    ("GET", "/users/{key}/tokens"): SESSION,
    ("GET", "/users/{key}/tokens/{id}/made"): SESSION,
    ("DELETE", "/users/{key}/tokens/{id}"): SESSION,
    ("POST", "/users/{key}/sign-ins"): SESSION,
    ("PUT", "/devices/{key}/approval"): MANAGERS,
    ("GET", "/devices"): SESSION,
    ("POST", "/devices"): SESSION,
    ("GET", "/devices/{key}"): SESSION,
    ("PATCH", "/devices/{key}"): SESSION,
    ("DELETE", "/devices/{key}"): SESSION | {Role.DEVICE},
    ("GET", "/tokens"): SESSION,
    ("POST", "/tokens"): SESSION,
    ("GET", "/tokens/{id}/made"): SESSION,
    ("DELETE", "/tokens/{id}"): SESSION,
    ("GET", "/paths"): SESSION,
    ("GET", "/relays"): SESSION,
    ("GET", "/health"): MANAGERS,
    ("GET", "/audit"): MANAGERS,
    ("GET", "/openings"): MANAGERS,
    ("GET", "/reflection"): set(Role) - {Role.NOBODY},
    ("GET", "/debug/counters"): MANAGERS,
}
"""Written out a second time on purpose: whoever changes a right changes it here, too."""


def new_key() -> NodePrivate:
    return NodePrivate.generate(os.urandom)


def error_of(response: httpx.Response) -> ErrorBody:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    return parse_message(ErrorBody, response.content)


async def tokens(world: World) -> dict[Role, str]:
    user = await world.add_user("ann")
    ann = ApiClient(world.url, user)
    return {
        Role.NOBODY: "",
        Role.JOIN: (await in_thread(lambda: ann.create_token("join", reusable=True))).token,
        Role.WORKSPACE: await world.add_workspace("dev", user),
        Role.DEVICE: await world.enrol(new_key(), user),
        Role.MEMBER: user,
        Role.ADMIN: (await in_thread(lambda: world.admin.create_user("eve", role=UserRole.ADMIN))).token,
        Role.OWNER: world.admin_token,
    }


async def test_the_server_says_how_a_request_reached_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        before = time.time()
        found = await ask_reflection(world.url, world.admin_token)
        assert (found.seen_from, found.arrived_at, found.n_stun_answered) == ("127.0.0.1", "127.0.0.1", 0)
        assert before <= found.unix_time <= time.time()


async def test_stun_that_the_server_asks_itself_for_its_health_is_nobody_elses(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        assert (await world.ask("GET", "/readyz")).status_code == 200
        await world.ask("GET", "/api/v1/health", world.admin_token)
        found = await ask_reflection(world.url, world.admin_token)
        assert found.n_stun_answered == 0


async def test_the_table_covers_every_route(tmp_path: Path) -> None:
    assert {(rule.method, rule.path): set(rule.roles) for rule in RULES} == ROUTES


@pytest.mark.slow
async def test_every_route_answers_those_who_may_and_refuses_everybody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        for role, token in (await tokens(world)).items():
            ordered = sorted(ROUTES.items(), key=lambda item: item[0][1] == "/sessions/me")
            for (method, path), allowed in ordered:
                where = PREFIX + path.replace("{key}", "no-such-thing").replace("{user}", "nobody")
                options = {"content": b"{}"} if method in ("POST", "PATCH") else {}
                response = await world.ask(method, where, token, **options)
                refused = response.status_code in (401, 403)
                own_only = (role, path) == (Role.DEVICE, "/devices/{key}")
                assert refused == (role not in allowed or own_only), (role, method, path, response.text)
                if refused:
                    assert response.status_code == (401 if role is Role.NOBODY else 403)
                    assert error_of(response).message


async def test_an_unknown_token_is_nobody_even_where_anybody_may_ask(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        for token in ("cdrs_" + "x" * 43, "x", "cdrs_" + "é" * 3):
            for path, status in (("/users/me", 401), ("/healthz", 200)):
                headers = [(b"authorization", f"Bearer {token}".encode())]
                async with httpx.AsyncClient() as client:
                    response = await client.get(world.url + PREFIX + path, headers=headers)
                assert response.status_code == status


async def test_a_workspace_lives_from_creation_to_deletion(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        admin = world.admin
        created = await in_thread(lambda: admin.create_workspace("dev"))
        assert created.token.startswith("cdrw_")
        shown = await in_thread(lambda: admin.get_workspace("dev"))
        assert (shown.id, shown.owner, shown.online) == (created.id, "admin", False)
        node = JoinedNode(created.token)

        async def run() -> None:
            with pytest.raises(UserError):
                await node.client(world.url).run()

        nursery.start_soon(run)
        await node.until(lambda node: node.is_connected)
        assert [space.online for space in await in_thread(admin.list_workspaces)] == [True]
        await in_thread(lambda: admin.delete_workspace(str(created.id)))
        assert await in_thread(admin.list_workspaces) == []
        with pytest.raises(UserError) as caught:
            await in_thread(lambda: admin.get_workspace("dev"))
        assert caught.value.exit_code is Exit.NO_SUCH_WORKSPACE


async def test_the_same_machine_enrols_as_the_same_device_and_can_log_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        key = new_key()
        first = await enrol_device(world.url, world.admin_token, name="My.Laptop", node_key=key.public())
        again = await enrol_device(world.url, world.admin_token, name="other", node_key=key.public())
        assert (first.id, first.name, first.owner) == (again.id, "my", "admin")
        assert first.token != again.token
        other = await enrol_device(world.url, world.admin_token, name="my", node_key=new_key().public())
        assert other.name == "my-2"
        with pytest.raises(UserError) as caught:
            await remove_device(world.url, again.token, other.id)
        assert caught.value.exit_code is Exit.REFUSED
        await remove_device(world.url, again.token, again.id)
        with pytest.raises(UserError) as caught:
            await remove_device(world.url, again.token, again.id)
        assert caught.value.exit_code is Exit.REFUSED
        assert [device.name for device in await in_thread(world.admin.list_devices)] == ["my-2"]


async def test_users_see_their_own_and_not_each_others(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        ann = ApiClient(world.url, await world.add_user("ann"))
        bob = ApiClient(world.url, await world.add_user("bob"))
        created = await in_thread(lambda: ann.create_workspace("dev"))
        assert await in_thread(bob.list_workspaces) == []
        for name in ("dev", "ann/dev", str(created.id)):
            for act in (bob.get_workspace, bob.delete_workspace):
                with pytest.raises(UserError) as caught:
                    await in_thread(lambda act=act, name=name: act(name))  # type: ignore[misc]
                assert caught.value.code == "not_found"
        assert len(await in_thread(ann.list_workspaces)) == 1
        owner = world.admin
        assert await in_thread(owner.list_workspaces) == []
        (seen,) = await in_thread(lambda: owner.list_workspaces(everyones=True))
        assert await in_thread(lambda: owner.get_workspace("ann/dev")) == seen


async def test_a_session_that_was_ended_is_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        token = await world.add_user("ann")
        ann = ApiClient(world.url, token)
        assert (await in_thread(ann.me)).name == "ann"
        assert (await world.ask("DELETE", "/api/v1/sessions/me", token)).is_success
        with pytest.raises(UserError) as caught:
            await in_thread(ann.me)
        assert caught.value.exit_code is Exit.REFUSED


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/workspaces", b"", 400, "bad_request"),
        ("/workspaces", b"[]", 400, "bad_request"),
        ("/workspaces", b'{"name": 5}', 400, "bad_request"),
        ("/workspaces", b'{"name": ""}', 400, "bad_request"),
        ("/workspaces", b'{"name": "Dev"}', 400, "bad_name"),
        ("/workspaces", b'{"name": "../etc"}', 400, "bad_name"),
        ("/workspaces", b"[" * 60_000, 400, "bad_request"),
        ("/workspaces", b"\xff\xfe", 400, "bad_request"),
        ("/workspaces", b" " * (MAX_BODY + 1), 413, "too_large"),
        ("/devices", b'{"name": "x", "node_key": "nodekey:zz"}', 400, "bad_key"),
        ("/nothing", b"{}", 404, "not_found"),
        ("/healthz", b"{}", 405, "method_not_allowed"),
    ],
)
async def test_a_bad_request_gets_one_clear_answer(
    tmp_path: Path, path: str, body: bytes, status: int, code: str
) -> None:
    async with serving(tmp_path) as world:
        response = await world.ask("POST", PREFIX + path, world.admin_token, content=body)
        assert (response.status_code, error_of(response).code) == (status, code)


async def test_a_body_without_end_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        stream = await trio.open_tcp_stream("127.0.0.1", world.started.http_address[1])
        async with stream:
            await stream.send_all(
                b"POST /api/v1/workspaces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                b"Authorization: Bearer " + world.admin_token.encode() + b"\r\n\r\n"
            )
            for _ in range(17):
                await stream.send_all(b"1000\r\n" + bytes(0x1000) + b"\r\n")
            with trio.fail_after(5):
                assert b" 413 " in await stream.receive_some()


async def test_a_body_that_never_comes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coderd.api.io.routes.BODY_TIMEOUT", 0.05)
    async with serving(tmp_path) as world:
        stream = await trio.open_tcp_stream("127.0.0.1", world.started.http_address[1])
        async with stream:
            await stream.send_all(b"GET /api/v1/healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
            with trio.fail_after(5):
                assert b" 408 " in await stream.receive_some()


async def test_a_defect_is_refused_in_json_and_without_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    async with serving(tmp_path) as world:
        token = world.admin_token
        monkeypatch.setattr("coderd.identity.io.nodes.Nodes.of", fail)
        response = await world.ask("GET", PREFIX + "/workspaces", token)
        assert (response.status_code, error_of(response).code) == (500, "internal_server_error")
        assert "luck" not in response.text


async def test_names_clash_with_409(tmp_path: Path) -> None:
    async with serving(tmp_path) as world:
        await world.add_workspace("dev")
        response = await world.ask(
            "POST", PREFIX + "/workspaces", world.admin_token, content=json.dumps({"name": "dev"})
        )
        assert (response.status_code, error_of(response).code) == (409, "name_taken")


# The client's side


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (MAX_ANSWER + 1),
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
    ids=["no JSON", "redirect", "odd status", "too long", "another protocol", "nothing"],
)
async def test_a_strange_server_is_one_clear_error(answer: bytes) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def reply(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, reply, listeners)
        questions: list[Callable[[], object]] = [ApiClient(url, "cdrs_x").me, ApiClient(url, "cdrs_x").health]
        for question in questions:
            with pytest.raises(UserError) as caught:
                await in_thread(question)
            assert caught.value.code in ("bad_answer", "unreachable")
        with pytest.raises(UserError):
            await enrol_device(url, "cdrs_x", name="x", node_key=new_key().public())
        nursery.cancel_scope.cancel()


async def test_nothing_of_an_answer_is_unpacked() -> None:
    """Nobody asks for anything compressed, and 64 KiB of it could be 64 MiB."""
    packed = gzip.compress(b'{"status":"ok"}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    async def reply(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(head + packed)

    unpacked: list[object] = []
    genuine = zlib.decompressobj

    def decompressor(wbits: int = zlib.MAX_WBITS) -> object:
        unpacked.append(wbits)
        return genuine(wbits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zlib, "decompressobj", decompressor)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, reply, listeners)
            with pytest.raises(UserError) as caught:
                await in_thread(ApiClient(url, "cdrs_x").health)
            nursery.cancel_scope.cancel()
    assert caught.value.code == "bad_answer"
    assert unpacked == []


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(UserError) as caught:
        await in_thread(ApiClient("http://127.0.0.1:9", "cdrs_x").me)
    assert caught.value.exit_code is Exit.UNREACHABLE


@pytest.mark.parametrize("token", ["a b", "a\nb", "ä", "a\x00"])
async def test_a_token_that_is_none_never_leaves(token: str) -> None:
    with pytest.raises(UserError) as caught:
        ApiClient("http://127.0.0.1:9", token).me()
    assert caught.value.exit_code is Exit.REFUSED
    assert token not in caught.value.message
