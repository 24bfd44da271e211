"""Reachability of this node, as it reports it to its server: endpoints, home relay, last netcheck. Pure."""

from coderd.engine.commands import Command, ListenAt, TellServer
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
        """Returns the addresses at which this node may be reached directly, the best first."""
        return tuple(addr for addr, _ in self._endpoints)

    def handle(self, event: EndpointsChanged | HomeChanged | NetcheckDone) -> list[Command]:
        """Takes what the paths have found out.

        Returns what is to be done about it, the server's report last.
        """
        commands: list[Command] = []
        match event:
            case EndpointsChanged():
                self._endpoints = event.endpoints
            case HomeChanged():
                self.home_region = event.region
                commands.append(ListenAt(event.region))
            case NetcheckDone():
                self.report = event.report
                commands.append(event)
        latencies = dict(self.report.region_latency) if self.report is not None else {}
        return [*commands, TellServer(NodeUpdate(self.home_region, self._endpoints, latencies))]
