"""Source of the operator's relay map, a file or a URL, and the distribution of its changes to the nodes.

A file is examined every two seconds, by its inode, time and size; a URL is fetched every ten minutes; SIGHUP
reads either at once. A map that cannot be used changes nothing: the last good map stays in force, a warning
is logged and ``derp_map.failed`` counted. At the start such a map ends the server, except a URL that does not
answer while the server has a relay of its own.
"""

import os
from collections.abc import Callable
from typing import Final

import httpx
import structlog
import trio

from coderd.config.derp import DerpOptions
from coderd.config.derp_map import MAX_MAP_SIZE, bad_map, read_derp_map
from coderd.metrics import Counters
from coderd.model.derpmap import DerpMap
from coderd.model.errors import Exit, UserError
from coderd.server.derpmap import MapClash
from coderd.server.reloads import Reloads

LOOK_INTERVAL: Final = 2.0
"""Seconds between two examinations of a file."""
FETCH_INTERVAL: Final = 600.0
"""Seconds between two fetches of a URL."""
RETRY_INTERVAL: Final = 30.0
"""Seconds until a URL is fetched again after a failure."""
FETCH_TIMEOUT: Final = 10.0
"""Seconds that a whole fetch may take."""
UNREACHABLE = "derp_map_unreachable"
"""Code of the error that may be temporary."""

log = structlog.get_logger(__name__)


class MapSource:
    """Reader of the operator's map: hands each new map over, and follows its changes.

    Args:
        options: name the file or URL; without either, there is no map.
        take: called with each map that was read, and None if there is none; raises MapClash if it conflicts
            with the server's own regions.
        counters: ``derp_map.loaded`` and ``derp_map.failed``.
    """

    def __init__(
        self, options: DerpOptions, take: Callable[[DerpMap | None], None], *, counters: Counters
    ) -> None:
        self._options = options
        self._take = take
        self._counters = counters
        self._signature: tuple[int, int, int] | None = None
        self._newest: DerpMap | None = None
        self._failure = ""

    @property
    def origin(self) -> str:
        """Path or URL of the map; empty if there is none."""
        return self._options.map_url or str(self._options.map_path or "")

    @property
    def failure(self) -> str:
        """Why the map could not be used when it was last read, as a clause; empty if it could."""
        return self._failure

    async def load(self) -> None:
        """Loads the first map. Raises UserError if the server should not start without it."""
        try:
            await self._load()
        except UserError as error:
            if error.code != UNREACHABLE or not self._options.has_relay:
                raise
            self._note_failure(error)
            self._take(None)

    async def follow(self, reloads: Reloads) -> None:
        """Loads the map again at each change or reload, for ever."""
        if not self.origin:
            return
        n_seen = reloads.n_asked
        while True:
            is_asked = False
            with trio.move_on_after(self._wait()):
                n_seen = await reloads.wait(n_seen)
                is_asked = True
            if is_asked or self._options.map_url or await self._signature_now() != self._signature:
                await self._reload()

    async def _reload(self) -> None:
        try:
            await self._load()
        except UserError as error:
            self._note_failure(error)
        else:
            if self._failure:
                log.info("derp_map_recovered", origin=self.origin)
            self._failure = ""

    async def _load(self) -> None:
        """Reads the map and hands it over. Raises UserError, and then leaves the map in force."""
        if not self.origin:
            self._take(None)
            return
        self._signature = await self._signature_now()
        text = await (self._fetch() if self._options.map_url else trio.to_thread.run_sync(self._read))
        found = read_derp_map(text, self.origin)
        try:
            self._take(found)
        except MapClash as clash:
            raise bad_map(self.origin, str(clash)) from None
        self._counters["derp_map.loaded"] += 1
        if self._newest not in (None, found):
            log.info("derp_map_changed", origin=self.origin, regions=sorted(found.regions))
        self._newest = found

    def _note_failure(self, error: UserError) -> None:
        """Counts a failure, and logs it if it differs from the last one."""
        self._counters["derp_map.failed"] += 1
        if error.message != self._failure:
            kept = "the server's own relay alone" if self._newest is None else "the last good map"
            log.warning("derp_map_unusable", why=error.message, in_force=kept)
        self._failure = error.message

    def _wait(self) -> float:
        if not self._options.map_url:
            return LOOK_INTERVAL
        return RETRY_INTERVAL if self._failure else FETCH_INTERVAL

    async def _signature_now(self) -> tuple[int, int, int] | None:
        """Returns the file's inode, modification time and size; None if there is no file."""
        if self._options.map_path is None:
            return None
        try:
            found = await trio.to_thread.run_sync(os.stat, self._options.map_path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> bytes:
        assert self._options.map_path is not None
        try:
            with self._options.map_path.open("rb") as file:
                return file.read(MAX_MAP_SIZE + 1)
        except OSError as error:
            raise bad_map(self.origin, error.strerror or type(error).__name__) from None

    async def _fetch(self) -> bytes:
        """Fetches the URL, without following redirects. Raises UserError."""
        data = bytearray()
        try:
            with trio.fail_after(FETCH_TIMEOUT):
                async with httpx.AsyncClient() as client, client.stream("GET", self.origin) as response:
                    if response.status_code != 200:
                        raise _unreachable(self.origin, f"it answers with status {response.status_code}")
                    async for chunk in response.aiter_bytes():
                        data += chunk
                        if len(data) > MAX_MAP_SIZE:
                            break
        except trio.TooSlowError:
            raise _unreachable(self.origin, f"no whole answer within {FETCH_TIMEOUT:.0f} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _unreachable(self.origin, str(error) or type(error).__name__) from None
        return bytes(data)


def _unreachable(origin: str, why: str) -> UserError:
    return UserError(
        f"the DERP map {origin} cannot be fetched: {why}",
        exit_code=Exit.UNREACHABLE,
        hint="Check the URL, or fetch it elsewhere and give the file with --derp-config-path.",
        code=UNREACHABLE,
    )
