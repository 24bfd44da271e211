"""Collects the signs that ``health`` makes findings of: what is slow in the background, what is quick when asked.

every 10 minutes, and every 30 seconds while something fails    the way through the access URL; the log is told of each change
when asked, at most once a second                               the database, STUN, the certificates, the relay map
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
RETRY_INTERVAL: Final = 30.0
"""Seconds to the next way through the access URL where the last one found something."""
KEEP: Final = 1.0
"""Seconds for which quick signs are as good as new: whoever asks more often is told the same."""
DATABASE_TIMEOUT: Final = 5.0
PATIENCE: Final = 8.0
"""Seconds that a report waits for a way through the access URL: for the first, and for another where the last found something."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The parts of a server that are looked at."""

    config: ServerConfig
    version: str
    directory: Directory
    maps: MapSource
    tls: ServerTls | None
    stun: Callable[[], tuple[AddrPort, ...]]
    """Where STUN is answered."""
    n_relays: Callable[[], int]
    """Nodes of the relay map in force that relay."""
    stalls: Callable[[], Stalls]
    """How the loop stood still lately."""
    web_apps_problem: Callable[[], UserError | None]
    """Why web apps are off, a clause, and what helps; None where they are not, or nobody wants them."""


class HealthChecks:
    """Whether a server is ready, and what is wrong with it.

    Args:
        checked: its parts.
        access: the way through its access URL.
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
        """Whether the server is about to end: then it is ready for nobody new."""

    async def follow(self) -> None:
        """Goes through the access URL again and again, for ever, and tells the log what changes."""
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
        """All findings of this moment, the worst first."""
        if self._has_tried.is_set() and self._about_access():
            self._has_tried = (
                trio.Event()
            )  # what was found may be mended: nobody wants to read of it for half a minute
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
        """Why nobody new should be sent here, as a clause; empty: the database answers, and STUN does."""
        if self.is_draining:
            return "the server is about to end"
        signs = await self._collect()
        if signs.database_seconds is None:
            return "the database does not answer"
        if not all(has_answered for _, has_answered in signs.stun):
            return "STUN does not answer"
        return ""

    def counts(self) -> dict[str, int]:
        """How many findings of each severity there were when somebody last looked."""
        findings = find(self._signs, time.time()) if self._signs is not None else self._about_access()
        counts = Counter(finding.severity for finding in findings)
        return {"warning": counts["warning"], "error": counts["error"]}

    def _about_access(self) -> tuple[HealthFinding, ...]:
        """What the last way through the access URL found."""
        url = str(self._checked.config.access_url)
        rest_is_well = Signs(access_url=url, access=self._trials, database_seconds=0.0, blocks_direct=True)
        return find(rest_is_well, time.time())

    async def _collect(self) -> Signs:
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
        """Seconds, the newest audit record's time, and what went wrong."""
        directory, started_at = self._checked.directory, trio.current_time()
        try:
            with trio.fail_after(DATABASE_TIMEOUT):
                newest = await directory.in_thread(lambda: directory.store.audit.page(limit=1))
        except (SQLAlchemyError, OSError, trio.TooSlowError) as error:
            return None, None, _words(error)
        return trio.current_time() - started_at, newest[0].at if newest else None, ""

    async def _ask_stun(self) -> tuple[tuple[AddrPort, bool], ...]:
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
    """An address to send to, where a socket is bound to all of them."""
    ip, port = address
    return ({"::": "::1", "0.0.0.0": "127.0.0.1"}.get(ip, ip), port)


def _words(error: Exception) -> str:
    """What SQLite said; never a statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    return "no answer in time" if isinstance(error, trio.TooSlowError) else str(cause)
