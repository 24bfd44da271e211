"""Web apps over real sockets: the site in front, a real app or a bare socket behind, and everybody who may come by."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
import trio
import trio.testing
from trio_websocket import open_websocket_url

from coderd.apps.io import gate
from coderd.browser.requests import form_token
from coderd.http import server as http_server
from coderd.identity.apps import App, AppShare
from coderd.identity.tokens import hash_token
from tests.shell.apps_world import (
    ANN,
    ANNS,
    BOBS,
    CLOSED_BY_POLICY,
    HOST,
    PREFIX,
    WEBSOCKET_KEY,
    until_seen,
    world,
)


async def test_an_app_sees_a_request_as_it_was_without_our_secrets() -> None:
    async with world() as here, here.client() as client:
        answer = await client.get(f"{PREFIX}/a%2Fb?x=1", headers={"cookie": "coderd_session=s; mine=1"})
        told = answer.json()["headers"]
        assert answer.status_code == 200
        assert told["cookie"] == "mine=1"
        assert "authorization" not in told
        assert (told["x-forwarded-for"], told["x-forwarded-prefix"]) == ("127.0.0.1", PREFIX)
        assert "sandbox" in answer.headers["content-security-policy"]
        assert (await client.get(PREFIX)).headers["location"] == f"{PREFIX}/"
        assert (await client.get("/other")).text == "the server's own"


async def test_only_whom_it_is_for_gets_to_an_app_and_others_learn_nothing() -> None:
    async with world() as here, here.client(BOBS) as bob, here.client("") as nobody:
        stranger = {"authorization": "Bearer cdrs_x"}
        for path in (PREFIX, "/@ann/none/apps/8080", "/@nobody/dev/apps/8080", "/@ann/dev/apps/slug"):
            assert (await bob.get(f"{path}/")).status_code == 404
            assert (await nobody.get(f"{path}/", headers=stranger)).status_code == 401
            page = await nobody.get(f"{path}/", headers={"accept": "text/html"})
            assert (page.status_code, page.headers["location"].partition("?")[0]) == (303, "/login")
        assert here.people.n_open == 0
        here.people.apps["docs"] = App("docs", 8080, AppShare.AUTHENTICATED)
        assert (await bob.get("/@ann/dev/apps/docs/")).status_code == 200
        assert (await nobody.get("/@ann/dev/apps/docs/")).status_code == 401
        assert ("bob", "dev", "docs") in here.people.noted
        here.people.apps["8080"] = App("8080", 8080, AppShare.PUBLIC)
        assert (await nobody.get(f"{PREFIX}/")).status_code == 200


@pytest.mark.parametrize(
    ("path", "upgrade", "ours", "the_apps"), [("/derp", "DERP", 404, 200), ("/echo", "websocket", 426, 101)]
)
async def test_an_app_on_its_own_host_has_paths_that_are_ours_elsewhere(
    path: str, upgrade: str, ours: int, the_apps: int
) -> None:
    async with world() as here:
        for host, status in ((HOST, the_apps), ("x", ours)):
            fields = (f"Host: {host}", f"Upgrade: {upgrade}", "Connection: Upgrade", WEBSOCKET_KEY)
            more = ("Sec-WebSocket-Version: 13", f"Authorization: Bearer {ANNS}", "", "")
            raw = await trio.open_tcp_stream("127.0.0.1", here.port)
            async with raw:
                await raw.send_all("\r\n".join((f"GET {path} HTTP/1.1", *fields, *more)).encode())
                seen = await until_seen(raw, b"\r\n\r\n")
                assert int(seen.split(b" ", 2)[1]) == status, (host, seen)


async def test_a_request_names_its_host_once() -> None:
    async with world() as here:
        here.people.apps["8080"] = App("8080", 8080, AppShare.PUBLIC)
        raw = await trio.open_tcp_stream("127.0.0.1", here.port)
        async with raw:
            await raw.send_all(f"GET http://other.example/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert (await until_seen(raw, b"\r\n\r\n")).startswith(b"HTTP/1.1 404")


async def test_without_the_sandbox_only_the_owner_comes_by_path() -> None:
    async with world(trusts_path_apps=True) as here, here.client() as ann, here.client(BOBS) as bob:
        here.people.apps["8080"] = App("8080", 8080, AppShare.PUBLIC)
        assert "content-security-policy" not in (await ann.get(f"{PREFIX}/")).headers
        assert (await bob.get(f"{PREFIX}/")).status_code == 404
        assert (await bob.get("/", headers={"host": HOST})).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_big_upload_arrives_whole(is_chunked: bool) -> None:
    body = bytes(range(256)) * 40_000

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    async with world() as here, here.client() as client:
        answer = await client.post(f"{PREFIX}/upload", content=pieces() if is_chunked else body)
        assert answer.json() == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
        assert len((await client.get(f"{PREFIX}/download?size=10000000")).content) == 10_000_000


async def test_a_stream_comes_piece_by_piece_and_ends_for_the_app_when_the_browser_leaves() -> None:
    async with world() as here:
        async with await here.ask(f"GET {PREFIX}/ticks") as stream:
            await until_seen(stream, b"data: 1")
            assert here.people.n_open == 1
        await here.people.none_open()


async def test_who_takes_nothing_holds_the_app_up_and_fills_nothing() -> None:
    sent = 0

    async def pour(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                await stream.send_all(bytes(65536))
                sent += 65536
        except trio.BrokenResourceError:
            pass

    async with world() as here:
        await here.serve(9000, pour)
        async with await here.ask("GET /@ann/dev/apps/9000/"):
            seen = -1
            while seen != sent:  # it has come to rest
                seen = sent
                await trio.sleep(0.2)
            assert sent < 32 << 20


async def test_an_app_that_answers_early_is_heard() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):
            async with stream:
                await stream.send_all(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nbig")
                while await stream.receive_some():
                    pass

    async with world() as here:
        await here.serve(9000, refuse)
        async with await here.ask("POST /@ann/dev/apps/9000/", "Content-Length: 8000000") as stream:
            await stream.send_all(bytes(10_000))
            answer = await until_seen(stream, b"big")
            assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"", 502),
        (b"SSH-2.0-OpenSSH\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, 502),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 None\r\n\r\n", 204),
    ],
)
async def test_what_answers_badly_is_told_of_and_what_comes_before_an_answer_is_not(
    said: bytes, status: int
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with stream:
                await stream.receive_some()
                await stream.send_all(said)
                await stream.send_eof()
                while await stream.receive_some():
                    pass

    async with world() as here, here.client() as client:
        await here.serve(9000, serve)
        assert (await client.get("/@ann/dev/apps/9000/")).status_code == status
        assert (await client.get("/@ann/dev/apps/9001/")).status_code == 502
        assert here.people.n_open == 0


async def test_an_answer_that_breaks_off_does_not_look_whole() -> None:
    async def break_off(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await stream.aclose()

    async with world() as here, here.client() as client:
        await here.serve(9000, break_off)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/@ann/dev/apps/9000/")


async def test_head_has_the_length_and_no_body() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        asked = await stream.receive_some()
        assert asked.startswith(b"HEAD / HTTP/1.1\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        await stream.aclose()

    async with world() as here, here.client() as client:
        await here.serve(9000, serve)
        answer = await client.head("/@ann/dev/apps/9000/")
        assert (answer.headers["content-length"], answer.content) == ("5000", b"")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /P/upload HTTP/1.1\r\nHost: x\r\nAuthorization: T\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /P/smuggled HTTP/1.1\r\n\r\n",
        b"POST /P/upload HTTP/1.1\r\nHost: x\r\nAuthorization: T\r\nTransfer-Encoding : chunked\r\nContent-Length: 44\r\n\r\n0\r\n\r\nGET /P/smuggled HTTP/1.1\r\nHost: x\r\n\r\nxxxx",
        b"POST /P/upload HTTP/1.1\r\nHost: x\r\nAuthorization: T\r\nContent-Length: 0\r\nConnection: content-length\r\n\r\nGET /P/smuggled HTTP/1.1\r\n\r\n",
    ],
)
async def test_no_second_request_hides_in_the_first(head: bytes) -> None:
    seen: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            with trio.move_on_after(0.3):
                while more := await stream.receive_some():
                    data += more
            seen.append(bytes(data))
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with world() as here:
        await here.serve(9000, serve)
        raw = await trio.open_tcp_stream("127.0.0.1", here.port)
        request = head.replace(b"/P/", b"/@ann/dev/apps/9000/").replace(b": T\r", b": Bearer cdrs_ann\r")
        await raw.send_all(request)
        async with raw:
            with trio.move_on_after(1):
                while await raw.receive_some():
                    pass
        assert all(text.count(b"HTTP/1.1") <= 1 for text in seen)


async def test_a_websocket_carries_text_bytes_and_its_end_both_ways() -> None:
    async with world() as here:
        url = f"ws://127.0.0.1:{here.port}{PREFIX}/echo"
        mine = [(b"authorization", b"Bearer " + ANNS.encode())]
        async with open_websocket_url(url, extra_headers=mine) as socket:
            for message in ("hällo", b"\x00\xff", "x" * 300_000):
                await socket.send_message(message)
                assert await socket.get_message() == message
        await here.people.none_open()


@pytest.mark.parametrize(
    ("token", "path", "status"), [(BOBS, "/echo", 404), ("x", "/echo", 401), (ANNS, "/nothing", 403)]
)
async def test_a_websocket_that_is_refused_is_answered_as_a_request(
    token: str, path: str, status: int
) -> None:
    wish = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    key = dict([WEBSOCKET_KEY.split(": ")])
    async with world() as here, here.client(token) as client:
        assert (await client.get(f"{PREFIX}{path}", headers={**wish, **key})).status_code == status
        await here.people.none_open()


@pytest.mark.slow
async def test_a_revoked_right_ends_what_is_open_within_two_seconds() -> None:
    async with world() as here:
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", WEBSOCKET_KEY)
        async with (
            await here.ask(f"GET {PREFIX}/echo", *upgrade) as socket,
            await here.ask(f"GET {PREFIX}/ticks") as stream,
        ):
            await until_seen(socket, b"101")
            await until_seen(stream, b"data: 1")
            here.people.sessions.clear()
            with trio.fail_after(2):
                while data := await stream.receive_some():
                    assert not data.endswith(b"0\r\n\r\n")
                await until_seen(socket, CLOSED_BY_POLICY)
        assert here.people.n_open == 0


async def test_signing_in_is_handed_over_to_the_apps_host_once() -> None:
    async with world() as here, here.client("") as client:
        origin, app = f"http://127.0.0.1:{here.port}", f"http://{HOST}:{here.port}"
        html = {"accept": "text/html"}
        first = await client.get("/x?y=1", headers={"host": f"{HOST}:{here.port}", **html})
        assert first.status_code == 303
        handing = first.headers["location"].removeprefix(origin)
        to_login = await client.get(handing)
        assert to_login.headers["location"].startswith("/login?next=%2Fapps%2Fsign-in")
        form = {"token": ANNS, "next": handing}
        for foreign in ({"origin": app}, {"sec-fetch-site": "same-site"}):
            assert (await client.post("/login", data=form, headers=foreign)).status_code == 403
        wrong = await client.post("/login", data={**form, "token": "cdrs_x"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        signed_in = await client.post("/login", data=form, headers={"origin": origin})
        session = signed_in.headers["set-cookie"].partition(";")[0]
        assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(signed_in.headers["set-cookie"].split("; "))
        assert ANNS not in str(signed_in.headers)
        page = await client.get(signed_in.headers["location"], headers={"cookie": session})
        ticket = page.text.partition('name="ticket" value="')[2].partition('"')[0]
        assert f'action="{app}/.coderd/sign-in"' in page.text
        at_app = {"host": f"{HOST}:{here.port}", "origin": origin}
        client.cookies.clear()
        assert (
            await client.post("/.coderd/sign-in", data={"ticket": ticket}, headers={**at_app, "origin": app})
        ).status_code == 403
        redeemed = await client.post("/.coderd/sign-in", data={"ticket": ticket}, headers=at_app)
        assert redeemed.headers["location"] == "/x?y=1"
        own = redeemed.headers["set-cookie"].partition(";")[0]
        again = await client.post("/.coderd/sign-in", data={"ticket": ticket}, headers=at_app)
        assert "set-cookie" not in again.headers
        client.cookies.clear()
        shown = await client.get("/x", headers={"host": f"{HOST}:{here.port}", "cookie": f"{own}; a=1"})
        assert shown.json()["headers"]["cookie"] == "a=1"
        foreign = {
            "host": f"{HOST}:{here.port}",
            "cookie": own,
            "origin": "http://1--x--bob.apps.example.com",
        }
        assert (await client.get("/x", headers=foreign)).status_code == 401
        elsewhere = {"host": HOST.replace("8080", "9000"), "cookie": own}
        assert (await client.get("/x", headers=elsewhere)).status_code == 401
        assert (await client.get(f"{PREFIX}/", headers={"cookie": own})).status_code == 401
        here.people.sessions.pop(b"b" * 32)
        assert (await client.get("/x", headers={"host": HOST, "cookie": own})).status_code == 401


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example/",
        "http://evil.example/.apps.example.com",
        f"http://{HOST}.evil.example/",
        f"http://x@{HOST}/",
        f"https://{HOST}/",
        "javascript:alert(1)",
        "",
    ],
)
async def test_nobody_is_handed_over_elsewhere(to: str) -> None:
    async with world() as here, here.client("") as client:
        assert (await client.get("/apps/sign-in", params={"to": to})).status_code == 404
        client.cookies.clear()
        signed_in = await client.post("/login", data={"token": ANNS, "next": to})
        assert signed_in.headers["location"] == "/"


async def test_an_apps_cookies_stay_its_own_and_signing_out_revokes() -> None:
    async with world() as here, here.client() as client:
        answer = await client.get("/cookies", headers={"host": HOST})
        assert sorted(answer.headers.get_list("set-cookie")) == [
            "mine=1; SameSite=lax; Path=/",
            "wide=1; SameSite=lax; Path=/",
        ]
        client.cookies.clear()
        await client.post("/login", data={"token": ANNS})
        assert b"b" * 32 in here.people.sessions
        assert (await client.post("/logout")).status_code == 403
        form = {"csrf": form_token(bytes(32), b"b" * 32)}
        assert (await client.post("/logout", data=form)).status_code == 303
        assert b"b" * 32 not in here.people.sessions


async def test_one_person_has_so_much_open_and_no_more_whatever_their_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "MAX_OPEN", 2)
    async with world() as here, here.client("cdrs_ann2") as ann, here.client(BOBS) as bob:
        here.people.sessions[hash_token("cdrs_ann2")] = ANN
        here.people.apps["7000"] = App("7000", 7000, AppShare.AUTHENTICATED)

        async def say_nothing(stream: trio.SocketStream) -> None:
            await until_seen(stream, b"\r\n\r\n")
            heard.release()
            await trio.sleep_forever()

        heard = trio.Semaphore(0)
        await here.serve(7000, say_nothing)
        path = "/@ann/dev/apps/7000/"
        waiting = [await here.ask(f"GET {path}") for _ in range(2)]
        for _ in waiting:
            await heard.acquire()
        refused = await ann.get(path)
        assert (refused.status_code, "Too many" in refused.text) == (429, True)
        assert (await bob.get("/@ann/dev/apps/none/")).status_code == 404
        for stream in waiting:
            await stream.aclose()
        await here.people.none_open()
        assert (await ann.get(f"{PREFIX}/")).status_code == 200
        assert here.counters["apps.too_many"] == 1


@pytest.mark.slow
async def test_who_has_all_places_at_a_workspace_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests and strangers come to a workspace by the same person as its owner, which is the server."""
    monkeypatch.setattr(gate, "MAX_OPEN_AT_WORKSPACE", 3)
    monkeypatch.setattr(gate, "MAX_OPEN_AT_WORKSPACE_EACH", 3)
    async with world() as here, here.client() as ann:
        here.people.apps["7000"] = App("7000", 7000, AppShare.PUBLIC)

        async def say_little(stream: trio.SocketStream) -> None:
            request = await until_seen(stream, b"\r\n\r\n")
            if b"begun" in request:
                await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            heard.release()
            await trio.sleep_forever()

        heard, waiting = trio.Semaphore(0), []
        await here.serve(7000, say_little)
        for path in ("a", "begun", "b"):
            waiting.append(await trio.open_tcp_stream("127.0.0.1", here.port))
            await waiting[-1].send_all(f"GET /@ann/dev/apps/7000/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await heard.acquire()
        assert (await ann.get(f"{PREFIX}/")).status_code == 200
        assert b"HTTP/1.1 429" in await until_seen(waiting[2], b"Too many")
        # Ann's own second and third are answered as well: two of strangers' are not more than hers then would be.
        anns = await here.ask("GET /@ann/dev/apps/7000/")
        await heard.acquire()
        assert (await ann.get(f"{PREFIX}/")).status_code == 429
        await anns.aclose()
        begun = await until_seen(waiting[1], b"1\r\nx\r\n")
        assert b"0\r\n\r\n" not in begun
        for stream in waiting:
            await stream.aclose()
        await here.people.none_open()


async def test_who_was_known_and_says_nothing_more_is_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what one has open is counted by person: connections that wait are bounded with those of strangers."""
    monkeypatch.setattr(http_server, "MAX_STRANGERS", 2)
    async with world() as here:
        streams = []
        for _ in range(3):
            streams.append(await here.ask(f"GET {PREFIX}/"))
            await until_seen(streams[-1], b'"headers"')
            await trio.testing.wait_all_tasks_blocked(0.02)
        with trio.fail_after(5), suppress(trio.BrokenResourceError):
            while await streams[0].receive_some():
                pass
        assert here.counters["apps.opened"] == 3
        for stream in streams:
            await stream.aclose()


async def test_who_shows_a_token_that_nobody_knows_stays_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a public app any text passes for a session; connections of strangers are bounded, those of people are not."""
    monkeypatch.setattr(http_server, "MAX_STRANGERS", 2)
    async with world() as here:
        here.people.apps["7000"] = App("7000", 7000, AppShare.PUBLIC)
        heard = trio.Semaphore(0)

        async def say_nothing(stream: trio.SocketStream) -> None:
            await until_seen(stream, b"\r\n\r\n")
            heard.release()
            await trio.sleep_forever()

        await here.serve(7000, say_nothing)
        streams = []
        for field in ("Authorization: Bearer cdrs_x", "Cookie: coderd_session=x", "X: y"):
            streams.append(await trio.open_tcp_stream("127.0.0.1", here.port))
            lines = ["GET /@ann/dev/apps/7000/ HTTP/1.1", "Host: x", field, "", ""]
            await streams[-1].send_all("\r\n".join(lines).encode())
            await heard.acquire()
        with trio.fail_after(5), suppress(trio.BrokenResourceError):
            assert await streams[0].receive_some() == b""
        for stream in streams:
            await stream.aclose()
        await here.people.none_open()
