"""Collection of the signs that ``findings`` judges: slow ones in the background, quick ones on request.

every 10 minutes, and every 30 seconds while it fails    the access URL; each change is logged
on request, at most once a second                        the database, STUN, the certificates, the relay map
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from coderd.api.health import HealthFinding, HealthReport
from coderd.config.server import ServerConfig
from coderd.http.tls import ServerTls
from coderd.model.addresses import AddrPort
from coderd.model.errors import UserError
from coderd.process.stalls import Stalls
from coderd.server.directory import Directory
from coderd.server.health.access_check import AccessCheck
from coderd.server.health.findings import AccessTrials, Signs, find, worst
from coderd.server.map_source import MapSource
from coderd.stun.io import stun_round_trip

ACCESS_INTERVAL: Final = 600.0
"""Seconds between two checks of the access URL after one without findings."""
RETRY_INTERVAL: Final = 30.0
"""Seconds between two checks of the access URL after one with findings."""
KEEP: Final = 1.0
"""Seconds for which the results of quick checks are reused."""
DATABASE_TIMEOUT: Final = 5.0
"""Seconds that one query of the database may take."""
PATIENCE: Final = 8.0
"""Seconds that a report waits for the first check of the access URL, or for a new one after findings."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Parts of a server that the health checks examine."""

    config: ServerConfig
    version: str
    directory: Directory
    maps: MapSource
    tls: ServerTls | None
    stun: Callable[[], tuple[AddrPort, ...]]
    """Returns the addresses at which the server answers STUN."""
    n_relays: Callable[[], int]
    """Returns the number of relays in the relay map in force."""
    stalls: Callable[[], Stalls]
    """Returns the recent stalls of the event loop."""
    web_apps_problem: Callable[[], UserError | None]
    """Returns why web apps do not work, as a clause with a hint; None if they work or are switched off."""


class HealthChecks:
    """Health checks of one server: whether it is ready, and what is wrong with it.

    Args:
        checked: the server's parts.
        access: checks the access URL.
    """

    def __init__(self, checked: Checked, access: AccessCheck) -> None:
        self._checked = checked
        self._access = access
        self._trials: AccessTrials | None = None
        self._has_tried = trio.Event()
        self._is_asked = trio.Event()
        self._lock = trio.Lock()
        self._signs: Signs | None = None
        self._signs_at = 0.0
        self.is_draining = False
        """Whether the server is about to stop, and so is not ready for new clients."""

    async def follow(self) -> None:
        """Checks the access URL periodically, for ever, and logs each finding that appears or disappears."""
        told: frozenset[str] = frozenset()
        while True:
            self._trials = await self._access.run()
            self._has_tried.set()
            self._signs = None
            findings = self._about_access()
            for finding in findings:
                if finding.code not in told:
                    log.warning("health", code=finding.code, message=finding.message, fix=finding.fix)
            for code in sorted(told - {finding.code for finding in findings}):
                log.info("health_recovered", code=code)
            told = frozenset(finding.code for finding in findings)
            self._is_asked = trio.Event()
            with trio.move_on_after(RETRY_INTERVAL if findings else ACCESS_INTERVAL):
                await self._is_asked.wait()

    async def report(self) -> HealthReport:
        """Returns all findings, the worst first.

        After a check of the access URL with findings, waits up to ``PATIENCE`` seconds for a new one.
        """
        if self._has_tried.is_set() and self._about_access():
            # The fault may be repaired since, and the next check may be RETRY_INTERVAL away: check now.
            self._has_tried = trio.Event()
            self._is_asked.set()
        with trio.move_on_after(PATIENCE):
            await self._has_tried.wait()
        signs = await self._collect()
        findings = find(signs, time.time())
        return HealthReport(
            severity=worst(findings),
            findings=findings,
            checked_at=signs.access.at if signs.access is not None else 0.0,
            access_url=signs.access_url,
            version=self._checked.version,
        )

    async def why_not_ready(self) -> str:
        """Returns why the server is not ready for new clients, as a clause; empty if it is ready."""
        if self.is_draining:
            return "the server is shutting down"
        signs = await self._collect()
        if signs.database_seconds is None:
            return "the database does not answer"
        if not all(has_answered for _, has_answered in signs.stun):
            return "STUN does not answer"
        return ""

    def counts(self) -> dict[str, int]:
        """Returns the number of warnings and errors at the last report."""
        findings = find(self._signs, time.time()) if self._signs is not None else self._about_access()
        counts = Counter(finding.severity for finding in findings)
        return {"warning": counts["warning"], "error": counts["error"]}

    def _about_access(self) -> tuple[HealthFinding, ...]:
        """Returns the findings of the last check of the access URL."""
        url = str(self._checked.config.access_url)
        rest_is_well = Signs(access_url=url, access=self._trials, database_seconds=0.0, blocks_direct=True)
        return find(rest_is_well, time.time())

    async def _collect(self) -> Signs:
        """Returns the signs, collected now or at most ``KEEP`` seconds ago."""
        async with self._lock:
            now = trio.current_time()
            if self._signs is None or now - self._signs_at >= KEEP:
                self._signs, self._signs_at = await self._look(), now
            return self._signs

    async def _look(self) -> Signs:
        checked = self._checked
        seconds, newest, error = await self._look_into_database()
        problem = checked.web_apps_problem()
        begins_at, ends_at = (None, None) if checked.tls is None else checked.tls.validity()
        return Signs(
            access_url=str(checked.config.access_url),
            access=self._trials,
            has_relay=checked.config.derp.has_relay,
            n_relays=checked.n_relays(),
            stun=await self._ask_stun(),
            blocks_direct=checked.config.derp.blocks_direct,
            map_failure=checked.maps.failure,
            certificate_begins_at=begins_at,
            certificate_ends_at=ends_at,
            database_seconds=seconds,
            database_error=error,
            newest_record_at=newest,
            stalls=checked.stalls(),
            web_apps_off=problem.message if problem is not None else "",
            web_apps_fix=problem.hint if problem is not None else "",
        )

    async def _look_into_database(self) -> tuple[float | None, float | None, str]:
        """Returns seconds taken, time of the newest audit record, error; if it fails, None, None, error."""
        directory, started_at = self._checked.directory, trio.current_time()
        try:
            with trio.fail_after(DATABASE_TIMEOUT):
                newest = await directory.in_thread(lambda: directory.store.audit.page(limit=1))
        except (SQLAlchemyError, OSError, trio.TooSlowError) as error:
            return None, None, _words(error)
        return trio.current_time() - started_at, newest[0].at if newest else None, ""

    async def _ask_stun(self) -> tuple[tuple[AddrPort, bool], ...]:
        """Returns each STUN address of the server, and whether it answered."""
        answered: dict[AddrPort, bool] = {}

        async def ask(address: AddrPort) -> None:
            try:
                answered[address] = await stun_round_trip(_reachable(address)) is not None
            except OSError:
                answered[address] = False

        async with trio.open_nursery() as nursery:
            for address in self._checked.stun():
                nursery.start_soon(ask, address)
        return tuple(sorted(answered.items()))


def _reachable(address: AddrPort) -> AddrPort:
    """Returns an address to send to: loopback in place of a wildcard address."""
    ip, port = address
    return ({"::": "::1", "0.0.0.0": "127.0.0.1"}.get(ip, ip), port)


def _words(error: Exception) -> str:
    """Returns SQLite's message without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    return "no answer in time" if isinstance(error, trio.TooSlowError) else str(cause)
