"""What one run has learned so far, and the report that it makes of it."""

from collections import Counter

from coderd.model.addresses import AddrPort, is_ipv6
from coderd.netcheck.mapped_address import NO_ADDRESSES, HostAddresses
from coderd.netcheck.report import Report
from coderd.netcheck.target import Family


class Findings:
    """Latencies per region, mappings per family; grows while a run goes on.

    Args:
        here: tells what may be this node's from what cannot.
    """

    def __init__(self, here: HostAddresses = NO_ADDRESSES) -> None:
        self._here = here
        self.region_latency: dict[int, float] = {}
        self.v4_latency: dict[int, float] = {}
        self.v6_latency: dict[int, float] = {}
        self.mapping_varies: bool | None = None
        self._first_v4: tuple[AddrPort, AddrPort] | None = None
        """The first IPv4 reply: destination probed, mapping shown."""
        self._last_v6: AddrPort | None = None
        self._v4_mappings: dict[AddrPort, AddrPort] = {}
        self._v4_counters: Counter[AddrPort] = Counter()
        self._v6_counters: Counter[AddrPort] = Counter()
        self._odd: dict[AddrPort, AddrPort] = {}
        self._n_sent: Counter[Family] = Counter()
        self._n_failed: Counter[Family] = Counter()

    @property
    def udp(self) -> bool:
        """Returns whether any STUN round trip worked."""
        return bool(self.v4_latency or self.v6_latency)

    def note_sent(self, family: Family) -> None:
        """Counts a probe that goes out over a family."""
        self._n_sent[family] += 1

    def note_send_failed(self, family: Family) -> None:
        """Counts a probe that could not be sent."""
        self._n_failed[family] += 1

    def note_latency(self, region: int, seconds: float) -> None:
        """Notes one measurement of a region; the least counts."""
        self.region_latency[region] = min(seconds, self.region_latency.get(region, seconds))

    def note_stun(self, region: int, target: AddrPort, mapped: AddrPort, latency: float) -> None:
        """Notes that a reply to a probe of ``target`` showed ``mapped``, whose family is what worked.

        A foreign one is no mapping.
        """
        self.note_latency(region, latency)
        by_family = self.v6_latency if is_ipv6(mapped) else self.v4_latency
        by_family[region] = min(latency, by_family.get(region, latency))
        if self._here.why_foreign(mapped[0], target[0]) is not None:
            self._odd[target] = mapped
        elif is_ipv6(mapped):
            self._last_v6 = mapped
            self._v6_counters[mapped] += 1
        else:
            self._note_v4_mapping(target, mapped)

    def _note_v4_mapping(self, target: AddrPort, mapped: AddrPort) -> None:
        """Two mappings differ: it varies.

        Equal ones mean that it does not, if two destinations showed them.
        """
        self._v4_counters[mapped] += 1
        self._v4_mappings[target] = mapped
        if self._first_v4 is None:
            self._first_v4 = (target, mapped)
        elif mapped != self._first_v4[1]:
            self.mapping_varies = True
        elif target != self._first_v4[0] and self.mapping_varies is None:
            self.mapping_varies = False

    def report(self, started_at: float, taken_at: float) -> Report:
        """Returns all of it as a report, without a home region."""
        return Report(
            started_at=started_at,
            taken_at=taken_at,
            udp=self.udp,
            ipv4=bool(self.v4_latency),
            ipv6=bool(self.v6_latency),
            ipv4_can_send=self._n_sent[Family.V4] > self._n_failed[Family.V4],
            ipv6_can_send=self._n_sent[Family.V6] > self._n_failed[Family.V6],
            mapping_varies_by_dest=self.mapping_varies,
            region_latency=dict(self.region_latency),
            region_v4_latency=dict(self.v4_latency),
            region_v6_latency=dict(self.v6_latency),
            global_v4=self._first_v4[1] if self._first_v4 is not None else None,
            global_v6=self._last_v6,
            v4_mappings=dict(self._v4_mappings),
            global_v4_counters=dict(self._v4_counters),
            global_v6_counters=dict(self._v6_counters),
            foreign_mappings=dict(self._odd),
        )
