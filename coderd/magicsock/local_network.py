"""This node's own place in the network: repeated netchecks, own endpoints, and the relay it calls home.

An endpoint is published as soon as the first STUN server has answered, before the whole report is done: peers
may begin to ping it a round trip after the start. A home is there at once where the map offers only one.
"""

import errno
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import TypeAlias

from coderd.magicsock.candidate import may_be_node
from coderd.magicsock.events import EndpointsChanged, HomeChanged, HttpsProbeWanted, NetcheckDone
from coderd.magicsock.home import Home
from coderd.magicsock.own_endpoints import OwnEndpoint, OwnEndpoints
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort, is_ipv6
from coderd.model.deadline import Deadline, earliest
from coderd.model.derpmap import DerpMap, DerpRegion
from coderd.model.errors import MalformedPacket
from coderd.model.timers import TimerTable
from coderd.netcheck import HostAddresses, HttpsProbe, Netcheck, Report, StunProbe
from coderd.stun import parse_response

FRESH = 27.0
"""Seconds for which own endpoints are believed.

Many NATs forget a UDP mapping after 30, though RFC 4787 REQ-5 asks for 120.
"""
RECHECK_MIN, RECHECK_MAX = 20.0, 26.0
"""Seconds between netchecks while the tunnel is in use, at random in between, which keeps mappings alive
(Tailscale has the same).
"""
IN_USE = 45.0
"""Seconds after the last send for which netchecks are repeated."""

_NEVER = float("-inf")


class Timer(IntEnum):
    """What happens here by the clock, apart from a running netcheck's own timers."""

    RECHECK = 0
    """20 to 26 s after each report, while in use."""


LocalNetworkEvent: TypeAlias = EndpointsChanged | HomeChanged | HttpsProbeWanted | NetcheckDone


class LocalNetwork:
    """Netcheck, own endpoints and home, and when to look again.

    Args:
        rng: for transaction ids and the jitter of repeated checks.
    """

    def __init__(self, *, rng: RandomBytes) -> None:
        self._rng = rng
        self._netcheck = Netcheck(rng=rng)
        self._here = HostAddresses()
        self._own = OwnEndpoints()
        self._derp_map = DerpMap()
        self._resolved: dict[str, Sequence[str]] = {}
        self._told: tuple[OwnEndpoint, ...] = ()
        self._home = Home()
        self._can_tell = True
        self._probed: dict[bytes, AddrPort] = {}
        self._mapped_families: set[bool] = set()
        """Address families with a mapping seen in this run: only the first one of each is published."""
        self._is_wanted_again = False
        self._is_wanted_full = False
        self._in_use_at = _NEVER
        self._fresh_at = _NEVER
        self._timers = TimerTable(Timer)
        self._probes: deque[StunProbe] = deque()
        self._events: deque[LocalNetworkEvent] = deque()

    # Commands

    def set_derp_map(self, derp_map: DerpMap, resolved: Mapping[str, Sequence[str]], now: float) -> None:
        """Takes a new map, a home from it if there is no choice, and starts a netcheck.

        An equal map changes nothing.
        """
        if (derp_map, dict(resolved)) == (self._derp_map, self._resolved):
            return
        self._derp_map, self._resolved = derp_map, dict(resolved)
        self._netcheck.set_derp_map(derp_map, resolved)
        eligible = self._eligible_homes()
        if self._home.region not in eligible:
            self._set_home(self._interim_home(eligible), now)
        self.check(now)

    def set_local_endpoints(
        self,
        v4_port: int | None,
        v6_port: int | None,
        addresses: Sequence[str],
        now: float,
        tunnels: Collection[str] = (),
    ) -> None:
        """Takes bound ports and addresses of interfaces and of tunnels.

        If what is usable changed, emits it and starts a netcheck.
        """
        self._here = HostAddresses(frozenset(addresses), frozenset(tunnels))
        self._netcheck.set_here(self._here)
        if not self._own.set_local(v4_port, v6_port, addresses):
            return
        self._netcheck.set_families(
            has_ipv4=self._own.has_family(ipv6=False), has_ipv6=self._own.has_family(ipv6=True)
        )
        self._tell(now)
        self.check(now)

    def handle_rebound(self, now: float) -> None:
        """Forgets all mappings and starts a full netcheck: the network changed.

        New endpoints are emitted when known.
        """
        self._own.forget_mappings()
        self._home.handle_rebound(now)
        self._netcheck.abort()
        self.check(now, full=True)

    def set_can_tell(self, can_tell: bool) -> None:
        """Sets whether peers would learn of a new home.

        While not, one that is alive is not left for a nearer one.
        """
        self._can_tell = can_tell

    def check(self, now: float, *, full: bool = False) -> None:
        """Starts a netcheck now, or after the one under way."""
        if not self._derp_map.regions or not self._has_socket:
            return
        if not self._netcheck.start(now, full):
            self._is_wanted_again = True
            self._is_wanted_full = self._is_wanted_full or full
            return
        self._probed.clear()
        self._mapped_families.clear()
        self._timers.disarm(Timer.RECHECK)
        self._settle(now)

    def note_use(self, now: float) -> None:
        """Notes that something is sent to a peer: resumes netchecks that had stopped for want of use."""
        self._in_use_at = now
        if (
            not self._timers.is_armed(Timer.RECHECK)
            and not self._netcheck.is_running
            and not self.is_fresh(now)
        ):
            self.check(now)

    # What happened

    def handle_stun(self, datagram: Buffer, now: float) -> bool:
        """Takes a STUN message.

        Returns whether it answered a probe of ours with an address that a node can have.
        """
        try:
            tx, mapped = parse_response(datagram)
        except MalformedPacket:
            return False
        if not may_be_node(mapped) or not self._netcheck.handle_stun(tx, mapped, now):
            return False
        self._fresh_at = now
        if is_ipv6(mapped) not in self._mapped_families and self._may_be_us(tx, mapped):
            self._mapped_families.add(is_ipv6(mapped))
            self._own.note_mapping(mapped, now)
            self._tell(now)
        self._settle(now)
        return True

    def _may_be_us(self, tx: bytes, mapped: AddrPort) -> bool:
        """Returns whether the server asked with ``tx`` saw this node's address, not a proxy's before it."""
        server = self._probed.get(tx)
        return server is None or self._here.why_foreign(mapped[0], server[0]) is None

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """Takes the answer to an ``HttpsProbeWanted``, in seconds; None for none."""
        self._netcheck.handle_https_latency(region, seconds, now)
        self._settle(now)

    def handle_relay_heard(self, region: int, now: float) -> None:
        """Notes that a region's relay delivered something."""
        self._netcheck.handle_relay_heard(region, now)

    def handle_relay_connected(self, region: int) -> None:
        """Notes that the link to a region's relay is up."""
        self._home.handle_connected(region)

    def handle_relay_broken(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is down."""
        self._home.handle_broken(region, now)

    def handle_send_failed(self, addr: AddrPort, error: int, now: float) -> None:
        """Notes that the kernel refused to send there.

        A local firewall's refusal is a lost packet, not a missing family.
        """
        if error == errno.EPERM:
            return
        for tx in [tx for tx, probed in self._probed.items() if probed == addr]:
            del self._probed[tx]
            self._netcheck.handle_send_failed(tx, now)
        self._settle(now)

    def handle_timeout(self, now: float) -> None:
        """Does what is due by ``now``."""
        if self._home.handle_timeout(now):
            self._limit_home(now)
            self.check(now, full=True)
        self._netcheck.handle_timeout(now)
        if self._timers.pop_due(now) is Timer.RECHECK and now - self._in_use_at <= IN_USE:
            self.check(now)
        self._settle(now)

    # What to do next

    def poll_probe(self) -> StunProbe | None:
        """Returns the next STUN request to send, or None."""
        return self._probes.popleft() if self._probes else None

    def poll_event(self) -> LocalNetworkEvent | None:
        """Returns the next event, or None."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``."""
        return earliest(self._netcheck.poll_timeout(), self._timers.poll_timeout(), self._home.poll_timeout())

    # Looking

    @property
    def home(self) -> int:
        """Returns the home region; 0 while there is none."""
        return self._home.region

    @property
    def endpoints(self) -> tuple[OwnEndpoint, ...]:
        """Returns own endpoints with their types, as last emitted."""
        return self._told

    @property
    def report(self) -> Report | None:
        """Returns the last finished report; None before the first."""
        return self._netcheck.report()

    @property
    def has_hard_nat(self) -> bool:
        """Returns whether the outer port was seen to depend on the destination."""
        report = self.report
        return report is not None and report.mapping_varies_by_dest is True

    @property
    def has_easy_nat(self) -> bool:
        """Returns whether the outer port was seen not to depend on the destination."""
        report = self.report
        return report is not None and report.mapping_varies_by_dest is False

    @property
    def stun_servers(self) -> tuple[AddrPort, ...]:
        """Returns the IPv4 STUN servers that answered last, the nearest first."""
        report = self.report
        return tuple(report.v4_mappings) if report is not None else ()

    def is_fresh(self, now: float) -> bool:
        """Returns whether the mappings among own endpoints were seen within ``FRESH``."""
        return now - self._fresh_at <= FRESH

    def can_send_to(self, addr: AddrPort) -> bool:
        """Returns whether there is a socket of the address's family."""
        return self._own.port_for(addr) is not None

    # Inside

    @property
    def _has_socket(self) -> bool:
        return self._own.has_family(ipv6=False) or self._own.has_family(ipv6=True)

    def _settle(self, now: float) -> None:
        """Takes what the netcheck has to say."""
        self._limit_home(now)
        while (wish := self._netcheck.poll_probe()) is not None:
            if isinstance(wish, HttpsProbe):
                self._events.append(HttpsProbeWanted(wish.region))
            else:
                self._probed[wish.tx] = wish.addr
                self._probes.append(wish)
        while (report := self._netcheck.poll_report()) is not None:
            self._take_report(report, now)

    def _take_report(self, report: Report, now: float) -> None:
        self._own.note_report(report, now)
        self._fresh_at = now
        self._choose_home(report, now)
        self._tell(now)
        self._events.append(NetcheckDone(report))
        self._timers.arm(Timer.RECHECK, now + self._recheck_delay())
        if self._is_wanted_again:
            is_full, self._is_wanted_again, self._is_wanted_full = self._is_wanted_full, False, False
            self.check(now, full=is_full)

    def _recheck_delay(self) -> float:
        share = int.from_bytes(self._rng(2), "big") / 65536
        return RECHECK_MIN + share * (RECHECK_MAX - RECHECK_MIN)

    def _limit_home(self, now: float) -> None:
        forced = 0 if self._can_tell else self._home.region
        self._netcheck.set_home_limits(forced=forced, dead=self._home.dead(now))

    def _choose_home(self, report: Report, now: float) -> None:
        """The report's proposal; without one the present home, and without that any, rather than none."""
        eligible = self._eligible_homes()
        if report.preferred_derp in eligible:
            self._set_home(report.preferred_derp, now)
        elif self._home.region not in eligible:
            self._set_home(eligible[self._rng(1)[0] % len(eligible)] if eligible else 0, now)

    def _eligible_homes(self) -> list[int]:
        return [region.region_id for region in self._derp_map.regions.values() if _may_be_home(region)]

    def _interim_home(self, eligible: Sequence[int]) -> int:
        """Where to live until the new map is measured.

        The only region, or the nearest by the last report; 0 = unknown.
        """
        if len(eligible) == 1:
            return eligible[0]
        known = self.report.region_latency if self.report is not None else {}
        return min(
            known.keys() & set(eligible), key=lambda region_id: (known[region_id], region_id), default=0
        )

    def _set_home(self, region: int, now: float) -> None:
        if self._home.move(region, now):
            self._events.append(HomeChanged(region))

    def _tell(self, now: float) -> None:
        endpoints = self._own.gather(now)
        is_change = set(endpoints) != set(self._told)
        self._told = endpoints
        if is_change:
            self._events.append(EndpointsChanged(endpoints))


def _may_be_home(region: DerpRegion) -> bool:
    is_offered = not (region.avoid or region.no_measure_no_home)
    return is_offered and any(not node.stun_only for node in region.nodes)
