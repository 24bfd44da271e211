"""Connections to apps over real sockets: when one serves again, and when it must not."""

import pytest
import trio

from coderd.identity.apps import App, AppShare
from tests.shell.apps_world import BOBS, PREFIX, World, world

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MINE = "/@ann/dev/apps/9000/"


class Bare:
    """A service that says what it is told to, answer by answer, and notes what it is asked on which connection."""

    def __init__(self, *answers: bytes, ends_after: int = 100) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self._answers = answers
        self._ends_after = ends_after
        self._n_connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        number = self._n_connections
        self._n_connections += 1
        async with stream:
            for turn in range(self._ends_after):
                if not (request := await stream.receive_some()):
                    return
                self.asked.append((number, bytes(request)))
                await stream.send_all(self._answers[min(turn, len(self._answers) - 1)])
            await stream.receive_some()  # whoever asks again gets no answer

    @property
    def connections(self) -> list[int]:
        return [number for number, _ in self.asked]


async def ask_twice(here: World, method: str = "GET", **options: object) -> tuple[int, int]:
    async with here.client() as client:
        first = await client.request(method, MINE, **options)  # type: ignore[arg-type]
        second = await client.request(method, MINE, **options)  # type: ignore[arg-type]
        return first.status_code, second.status_code


@pytest.mark.slow
async def test_requests_of_one_person_to_one_app_share_a_connection_that_ends_when_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coderd.apps.idle.IDLE_TIMEOUT", 0.5)
    async with world() as here, here.client() as client:
        for path in ("/a", "/download?size=100000", "/b"):
            assert (await client.get(PREFIX + path)).status_code == 200
        posted = await client.post(f"{PREFIX}/upload", content=b"x" * 100_000)
        assert posted.json()["size"] == 100_000
        assert (
            here.people.n_dialled == 2
        )  # what may not be repeated never goes by one that may just be closing
        await here.people.none_open()


async def test_persons_and_apps_do_not_share() -> None:
    async with world() as here, here.client() as ann, here.client(BOBS) as bob, here.client("") as nobody:
        here.people.apps["8080"] = App("8080", 8080, AppShare.PUBLIC)
        bare = Bare(OK)
        await here.serve(9000, bare.serve)
        for client in (ann, bob, nobody):
            assert (await client.get(f"{PREFIX}/x")).status_code == 200
        assert (await ann.get(MINE)).status_code == 200
        assert here.people.n_dialled == 4
        secret = {"authorization": "Basic YTpi"}
        for _ in range(2):
            assert (await nobody.get(f"{PREFIX}/x", headers=secret)).status_code == 200
        assert here.people.n_dialled == 6


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), id="said to close"),
        pytest.param(OK.replace(b"1.1", b"1.0"), id="HTTP/1.0"),
        pytest.param(OK + OK, id="more than was asked for"),
    ],
)
async def test_a_connection_that_is_not_in_order_is_not_used_again(answer: bytes) -> None:
    bare = Bare(answer)
    async with world() as here:
        await here.serve(9000, bare.serve)
        assert await ask_twice(here) == (200, 200)
        assert bare.connections == [0, 1]


async def test_an_answer_before_the_end_of_the_request_leaves_nothing_to_use_again() -> None:
    bare = Bare(OK)
    async with world() as here, here.client() as client:
        await here.serve(9000, bare.serve)
        async with await here.ask(f"POST {MINE}", "Content-Length: 8000000") as stream:
            seen = b""
            while b"ok" not in seen:
                seen += await stream.receive_some()
        await here.people.none_open()
        assert (await client.get(MINE)).status_code == 200
        assert bare.connections[-1] == 1


async def test_what_was_asked_as_the_app_closed_is_asked_once_more() -> None:
    bare = Bare(OK, ends_after=1)
    async with world() as here:
        await here.serve(9000, bare.serve)
        assert await ask_twice(here) == (200, 200)
        assert bare.connections == [0, 1]
        assert here.counters["apps.repeated"] == 1


async def test_what_an_app_has_begun_to_answer_is_not_asked_again() -> None:
    bare = Bare(OK, b"nonsense\r\n\r\n")
    async with world() as here:
        await here.serve(9000, bare.serve)
        assert await ask_twice(here) == (200, 502)
        assert bare.connections == [0, 0]


async def test_a_connection_that_was_cut_is_not_used_again() -> None:
    bare = Bare(OK)
    async with world() as here, here.client() as client:
        await here.serve(9000, bare.serve)
        assert (await client.get(MINE)).status_code == 200
        here.people.cut()
        assert (await client.get(MINE)).status_code == 200
        assert bare.connections == [0, 1]
        assert here.counters["apps.repeated"] == 0


async def test_a_grant_is_remembered_until_anything_changes() -> None:
    async with world() as here, here.client() as client:
        for _ in range(3):
            assert (await client.get(f"{PREFIX}/x")).status_code == 200
        assert here.people.n_asked < 3
        here.people.sessions.clear()
        assert (await client.get(f"{PREFIX}/x")).status_code == 401
