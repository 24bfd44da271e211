"""One run: probes go out, replies come in, and after at most five seconds there is a report.

A probe set is one region over one family. Its probes start at their delays, each with a transaction id of its
own. A set ends with its first reply, save that an IPv4 set with a second destination goes on until two
destinations have shown whether the mapping varies. A run ends when all sets have, or enough regions are
known, or time is up; where UDP stays silent, or speaks for no region that one could call home, it asks for
HTTPS latencies as well.
"""

from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from coderd.model import RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.derpmap import DerpMap
from coderd.netcheck.findings import Findings
from coderd.netcheck.mapped_address import NO_ADDRESSES, HostAddresses
from coderd.netcheck.plan import ProbeSet
from coderd.netcheck.report import Report
from coderd.netcheck.target import Family, Resolved, stun_target
from coderd.stun import TX_SIZE, encode_request

STUN_TIMEOUT = 3.0
"""Seconds after which no STUN reply is waited for (Tailscale netcheck's ``stunProbeTimeout``)."""
REPORT_TIMEOUT = 5.0
"""Seconds that a whole run may take (Tailscale netcheck's ``ReportTimeout``)."""
HTTPS_AFTER = 1.0
"""Seconds of silence after which HTTPS latencies are asked for, beside STUN, so that both end together."""
ENOUGH_REGIONS = 3
"""Regions that must have answered before the run stops waiting for further ones."""
FEW_REGIONS_PATIENCE = 0.3
"""Least wait for further replies where the map has fewer regions: time for a full plan's retransmissions."""
SECOND_DESTINATION_PATIENCE = 0.1
"""Wait for the second destination's reply, on top of twice the first one's latency."""


class StunProbe(NamedTuple):
    """A STUN request to send, now, from the socket that carries WireGuard."""

    tx: bytes
    addr: AddrPort

    @property
    def datagram(self) -> bytes:
        """Returns the request's bytes."""
        return encode_request(self.tx)


class HttpsProbe(NamedTuple):
    """Wish to measure the latency of a region's relay by HTTPS (or HTTP), and to report it."""

    region: int


ProbeRequest: TypeAlias = StunProbe | HttpsProbe
"""What a run wants to have sent or measured."""


class _Planned(NamedTuple):
    at: float
    target: AddrPort


class _Sent(NamedTuple):
    owner: "_Set"
    target: AddrPort
    at: float


@dataclass(slots=True, eq=False)
class _Set:
    """The state of one probe set."""

    region_id: int
    family: Family
    waiting: deque[_Planned]
    n_destinations: int
    heard: set[AddrPort] = field(default_factory=set)
    closes_at: float | None = None
    """Since the first reply: when to stop waiting for a second destination."""
    is_done: bool = False


class Run:
    """State machine of one report.

    Args:
        derp_map: the regions; those without latency and with a relay are asked by HTTPS if UDP stays silent.
        resolved: addresses by host name.
        plan: the probe sets; probes without a target are left out.
        is_full: a full report is more patient.
        rng: for transaction ids.
        now: the run starts here.
        here: this host's addresses.
        homes: regions of which one has to answer, by HTTPS if STUN passes by all of them; empty: any answer
            will do.
    """

    def __init__(
        self,
        derp_map: DerpMap,
        resolved: Resolved,
        plan: Sequence[ProbeSet],
        *,
        is_full: bool,
        rng: RandomBytes,
        now: float,
        here: HostAddresses = NO_ADDRESSES,
        homes: Set[int] = frozenset(),
    ) -> None:
        self.started_at = now
        self._homes = homes
        self._is_home_heard = not homes
        self._derp_map = derp_map
        self._rng = rng
        self._patience_factor = 2.0 if is_full else 1.0
        self._sets = [s for probe_set in plan if (s := _planned(probe_set, resolved, now)) is not None]
        self._n_regions = len({probe_set.region_id for probe_set in self._sets})
        self._stun_ends_at = now + STUN_TIMEOUT
        self._enough_at: float | None = None
        self._sent: dict[bytes, _Sent] = {}
        self._wishes: deque[ProbeRequest] = deque()
        self._https_wanted: set[int] | None = None
        self._findings = Findings(here)
        self._finished_at: float | None = None
        self.handle_timeout(now)

    # What happened

    def handle_stun(self, tx: bytes, mapped: AddrPort, now: float) -> bool:
        """Takes a success response. Returns whether it answered a probe of this run."""
        sent = self._sent.pop(tx, None)
        if sent is None or self._finished_at is not None:
            return sent is not None
        owner, latency = sent.owner, max(now - sent.at, 0.0)
        self._findings.note_stun(owner.region_id, sent.target, mapped, latency)
        self._is_home_heard = self._is_home_heard or owner.region_id in self._homes
        owner.heard.add(sent.target)
        if owner.closes_at is None:
            second = (planned.at for planned in owner.waiting if planned.target != sent.target)
            owner.closes_at = max(now, next(second, now)) + 2 * latency + SECOND_DESTINATION_PATIENCE
        self._note_enough(now)
        self.handle_timeout(now)
        return True

    def handle_send_failed(self, tx: bytes, now: float) -> None:
        """Notes that a probe could not be sent at all (no route, no such family)."""
        sent = self._sent.pop(tx, None)
        if sent is None:
            return
        self._findings.note_send_failed(sent.owner.family)
        self.handle_timeout(now)

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """Takes the answer to an ``HttpsProbe``, in seconds; None if it failed."""
        if self._https_wanted is None or region not in self._https_wanted:
            return
        self._https_wanted.discard(region)
        if seconds is not None and not self._is_stun_enough:
            self._findings.note_latency(region, seconds)
        self.handle_timeout(now)

    def handle_timeout(self, now: float) -> None:
        """Sends what is due, and ends what is over."""
        if self._finished_at is not None:
            return
        if now < self._stun_ends_at:
            self._send_due(now)
        self._close_sets(now)
        is_stun_over = self._is_stun_over(now)
        if not self._is_stun_enough and (is_stun_over or now >= self.started_at + HTTPS_AFTER):
            self._want_https()
        if self._is_over(is_stun_over, now):
            self._finished_at = now
            self._wishes.clear()

    # What to do next

    def poll_probe(self) -> ProbeRequest | None:
        """Returns the next thing to send or to measure, or None."""
        return self._wishes.popleft() if self._wishes else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``; None once finished."""
        if self._finished_at is not None:
            return None
        deadlines = [Deadline(self.started_at + REPORT_TIMEOUT, "netcheck report")]
        if self._stun_pending():
            deadlines.append(Deadline(self._stun_stop_at(), "netcheck STUN"))
            deadlines.extend(self._set_deadlines())
            if not self._is_stun_enough and self._https_wanted is None:
                deadlines.append(Deadline(self.started_at + HTTPS_AFTER, "netcheck HTTPS"))
        return earliest(*deadlines)

    def report(self) -> Report | None:
        """Returns what was found once finished, else None; without a home region, which needs the history."""
        if self._finished_at is None:
            return None
        return self._findings.report(self.started_at, self._finished_at)

    # Sets

    def _send_due(self, now: float) -> None:
        for probe_set in self._sets:
            while not probe_set.is_done and probe_set.waiting and probe_set.waiting[0].at <= now:
                self._send(probe_set, probe_set.waiting.popleft().target, now)

    def _send(self, probe_set: _Set, target: AddrPort, now: float) -> None:
        if target in probe_set.heard:
            return
        if not self._helps(probe_set):
            probe_set.is_done = True
            return
        tx = self._rng(TX_SIZE)
        self._sent[tx] = _Sent(probe_set, target, now)
        self._findings.note_sent(probe_set.family)
        self._wishes.append(StunProbe(tx, target))

    def _helps(self, probe_set: _Set) -> bool:
        """Whether a further probe can tell anything new."""
        if probe_set.region_id not in self._findings.region_latency:
            return True
        if probe_set.family is Family.V6:
            return not self._findings.v6_latency
        return self._findings.mapping_varies is None

    def _close_sets(self, now: float) -> None:
        for probe_set in self._sets:
            probe_set.is_done = probe_set.is_done or self._is_answered(probe_set, now)

    def _is_answered(self, probe_set: _Set, now: float) -> bool:
        if probe_set.closes_at is None:
            return not probe_set.waiting and not self._has_outstanding(probe_set)
        is_second_wanted = (
            probe_set.family is Family.V4
            and self._findings.mapping_varies is None
            and len(probe_set.heard) < probe_set.n_destinations
            and self._is_second_possible(probe_set)
        )
        return not is_second_wanted or now >= probe_set.closes_at

    def _is_second_possible(self, probe_set: _Set) -> bool:
        others = [planned.target for planned in probe_set.waiting]
        return any(target not in probe_set.heard for target in others) or self._has_outstanding(probe_set)

    def _has_outstanding(self, probe_set: _Set) -> bool:
        return any(
            sent.owner is probe_set and sent.target not in probe_set.heard for sent in self._sent.values()
        )

    def _set_deadlines(self) -> Iterator[Deadline]:
        for probe_set in self._sets:
            if probe_set.is_done:
                continue
            if probe_set.waiting:
                yield Deadline(probe_set.waiting[0].at, "netcheck probe")
            if probe_set.closes_at is not None:
                yield Deadline(probe_set.closes_at, "netcheck second destination")

    # The end

    def _note_enough(self, now: float) -> None:
        """From the third region on (or the last) the run waits as long as the slowest took, no more."""
        n_enough = min(ENOUGH_REGIONS, self._n_regions)
        if self._enough_at is not None or len(self._findings.region_latency) < n_enough:
            return
        wait = self._patience_factor * max(self._findings.region_latency.values())
        if self._n_regions < ENOUGH_REGIONS:
            wait = max(wait, FEW_REGIONS_PATIENCE)
        self._enough_at = now + wait

    def _stun_stop_at(self) -> float:
        if self._enough_at is None:
            return self._stun_ends_at
        return min(self._stun_ends_at, self._enough_at)

    def _stun_pending(self) -> bool:
        return any(not probe_set.is_done for probe_set in self._sets)

    def _is_stun_over(self, now: float) -> bool:
        if not self._stun_pending():
            return True
        if now < self._stun_stop_at():
            return False
        for probe_set in self._sets:
            probe_set.is_done = True
        return True

    def _want_https(self) -> None:
        if self._https_wanted is not None:
            return
        regions = [
            region_id
            for region_id, region in sorted(self._derp_map.regions.items())
            if region_id not in self._findings.region_latency
            and not (region.avoid or region.no_measure_no_home)
            and any(not node.stun_only for node in region.nodes)
        ]
        self._https_wanted = set(regions)
        self._wishes.extend(HttpsProbe(region_id) for region_id in regions)

    def _is_over(self, is_stun_over: bool, now: float) -> bool:
        if now >= self.started_at + REPORT_TIMEOUT:
            return True
        return is_stun_over and (self._is_stun_enough or not self._https_wanted)

    @property
    def _is_stun_enough(self) -> bool:
        return self._findings.udp and self._is_home_heard


def _planned(probe_set: ProbeSet, resolved: Resolved, now: float) -> _Set | None:
    """A plan's set with its targets filled in; None where no probe has one."""
    waiting = deque(
        _Planned(now + probe.delay, target)
        for probe in probe_set.probes
        if (target := stun_target(probe.node, probe_set.family, resolved)) is not None
    )
    if not waiting:
        return None
    n_destinations = len({planned.target for planned in waiting})
    return _Set(probe_set.region_id, probe_set.family, waiting, n_destinations)
