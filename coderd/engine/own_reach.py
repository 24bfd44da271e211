"""Where this node can be reached, as its paths find out and its server is told. Pure."""

from coderd.magicsock import EndpointsChanged, HomeChanged, NetcheckDone
from coderd.model.addresses import AddrPort
from coderd.model.reachability import NodeUpdate
from coderd.netcheck import Report


class OwnReach:
    """This node's home region, endpoints and last netcheck.

    Attributes:
        home_region: the relay region at which this node listens; 0 while unknown.
        report: what the last finished netcheck found.
    """

    def __init__(self) -> None:
        self.home_region = 0
        self.report: Report | None = None
        self._endpoints: tuple[tuple[AddrPort, int], ...] = ()

    @property
    def endpoints(self) -> tuple[AddrPort, ...]:
        """Where this node may be reached directly, the best first."""
        return tuple(addr for addr, _ in self._endpoints)

    def handle(self, event: EndpointsChanged | HomeChanged | NetcheckDone) -> NodeUpdate:
        """Takes what the paths have found out, and returns what the server is told of it."""
        match event:
            case EndpointsChanged():
                self._endpoints = event.endpoints
            case HomeChanged():
                self.home_region = event.region
            case NetcheckDone():
                self.report = event.report
        latencies = dict(self.report.region_latency) if self.report is not None else {}
        return NodeUpdate(self.home_region, self._endpoints, latencies)
