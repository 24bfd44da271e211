"""One report after another: runs, their history, and the home region that follows from them.

A parent resolves the relays' names, sends what ``poll_probe`` gives from the socket that carries WireGuard,
hands back what comes, and calls ``handle_timeout`` at ``poll_timeout``. A run takes at most five seconds; two
never overlap.
"""

from collections import deque
from dataclasses import replace

from coderd.model import RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.derpmap import DerpMap
from coderd.netcheck.home import HISTORY, HomeQuestion, choose_home
from coderd.netcheck.mapped_address import NO_ADDRESSES, HostAddresses
from coderd.netcheck.plan import full_plan, incremental_plan
from coderd.netcheck.report import Report
from coderd.netcheck.run import ProbeRequest, Run
from coderd.netcheck.target import Family, Resolved

FULL_INTERVAL = 300.0
"""Seconds after which a full report is due again."""


class Netcheck:
    """Measures the way to the relays and what NATs stand on it, and proposes the home region.

    Args:
        rng: for transaction ids.
    """

    def __init__(self, *, rng: RandomBytes) -> None:
        self._rng = rng
        self._forced_home = 0
        self._dead_relays: frozenset[int] = frozenset()
        self._derp_map = DerpMap()
        self._resolved: Resolved = {}
        self._families: tuple[Family, ...] = (Family.V4, Family.V6)
        self._here = NO_ADDRESSES
        self._run: Run | None = None
        self._full_at: float | None = None
        self._heard_at: dict[int, float] = {}
        self._history: deque[Report] = deque()
        self._fresh: deque[Report] = deque()

    # Commands

    def set_derp_map(self, derp_map: DerpMap, resolved: Resolved) -> None:
        """Takes a new map and its host names' addresses.

        A run on the old one is dropped; the next is full.
        """
        self._derp_map = derp_map
        self._resolved = resolved
        self.abort()
        self._full_at = None

    def set_families(self, *, has_ipv4: bool, has_ipv6: bool) -> None:
        """Sets which families this host has usable addresses of, from the next run on."""
        usable = ((Family.V4, has_ipv4), (Family.V6, has_ipv6))
        self._families = tuple(family for family, has in usable if has)

    def set_here(self, here: HostAddresses) -> None:
        """Sets this host's addresses, from the next run on."""
        self._here = here

    def set_home_limits(self, *, forced: int, dead: frozenset[int]) -> None:
        """Sets a home to have while it is alive, and regions whose relays are dead.

        Both apply regardless of latency. ``forced`` is the home's region, 0 where none is forced.
        """
        self._forced_home, self._dead_relays = forced, dead

    def start(self, now: float, full: bool = False) -> bool:
        """Starts a run. Returns False, and does nothing, while one is under way.

        Args:
            now: the run's start.
            full: measure everything; without it, only what has changed often, unless a full report is due.
        """
        if self._run is not None:
            return False
        last = self.report()
        is_full = full or last is None or self._full_at is None or now - self._full_at > FULL_INTERVAL
        if is_full or last is None:
            plan = full_plan(self._derp_map, self._families)
            self._full_at = now
        else:
            plan = incremental_plan(self._derp_map, self._families, last, last.preferred_derp)
        self._run = Run(
            self._derp_map,
            self._resolved,
            plan,
            is_full=is_full,
            rng=self._rng,
            now=now,
            here=self._here,
            homes=self._habitable() - self._dead_relays if is_full else frozenset(),
        )
        self._settle()
        return True

    def abort(self) -> None:
        """Forgets the run under way, whose sockets or map are gone. The next one is full."""
        if self._run is not None:
            self._run = None
            self._full_at = None

    # What happened

    def handle_stun(self, tx: bytes, mapped: AddrPort, now: float) -> bool:
        """Takes a STUN success response. Returns whether it was awaited."""
        if self._run is None:
            return False
        was_awaited = self._run.handle_stun(tx, mapped, now)
        self._settle()
        return was_awaited

    def handle_send_failed(self, tx: bytes, now: float) -> None:
        """Notes that a probe found no route out of this host.

        A local firewall's refusal (EPERM) is a lost packet instead.
        """
        if self._run is not None:
            self._run.handle_send_failed(tx, now)
            self._settle()

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """Takes the answer to an ``HttpsProbe``, in seconds; None if there was none."""
        if self._run is not None:
            self._run.handle_https_latency(region, seconds, now)
            self._settle()

    def handle_relay_heard(self, region: int, now: float) -> None:
        """Notes that a region's relay sent a frame: it is alive, whatever STUN says.

        Once in some seconds is enough.
        """
        self._heard_at[region] = now

    def handle_timeout(self, now: float) -> None:
        """Does what is due by ``now``."""
        if self._run is not None:
            self._run.handle_timeout(now)
            self._settle()

    # What to do next

    def poll_probe(self) -> ProbeRequest | None:
        """Returns the next ``StunProbe`` to send, or ``HttpsProbe`` to carry out, or None."""
        return self._run.poll_probe() if self._run is not None else None

    def poll_report(self) -> Report | None:
        """Returns each finished report once, then None."""
        return self._fresh.popleft() if self._fresh else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``; None between runs."""
        return self._run.poll_timeout() if self._run is not None else None

    @property
    def is_running(self) -> bool:
        """Returns whether a run is under way."""
        return self._run is not None

    def report(self) -> Report | None:
        """Returns the last finished report; None before the first."""
        return self._history[-1] if self._history else None

    def _settle(self) -> None:
        """Takes a finished run's report, chooses the home region, and keeps it."""
        found = self._run.report() if self._run is not None else None
        if found is None:
            return
        last, habitable = self.report(), self._habitable()
        question = HomeQuestion(
            previous=last.preferred_derp if last is not None and last.preferred_derp in habitable else 0,
            heard_at=self._heard_at,
            region_score=self._derp_map.region_score,
            forced=self._forced_home,
            barred=self._dead_relays | (found.region_latency.keys() - habitable),
        )
        report = replace(found, preferred_derp=choose_home(found, self._history, question))
        while self._history and report.taken_at - self._history[0].taken_at > HISTORY:
            self._history.popleft()
        self._history.append(report)
        self._fresh.append(report)
        self._run = None

    def _habitable(self) -> set[int]:
        """Regions of the map, as it is now, that have a relay."""
        regions = self._derp_map.regions.values()
        return {region.region_id for region in regions if not all(node.stun_only for node in region.nodes)}
