"""A whole laboratory: the network of a topology, and coderd on it."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Self

from lab.authority import Authority
from lab.capture import Capture, capture
from lab.host import Host
from lab.internet import Internet, SiteName
from lab.named import TOPOLOGIES
from lab.nodes import Node
from lab.process import Process
from lab.realm import Realm
from lab.server import Server
from lab.topology import Topology
from lab.waiting import until

OPEN: list["Lab"] = []
"""The laboratories that are within their ``with`` now, for whoever reports a failure."""


class Lab:
    """An internet with a server, a user and a workspace ``dev``; gone when its ``with`` ends.

    As prose::

        with Lab("easy-nat") as lab:
            lab.join()
            with lab.udp_held():
                lab.user.coderctl("ping", "dev")
            lab.user.wait_for_path("dev", "direct")

    Args:
        topology: the name of one, or one of your own making.
    """

    def __init__(self, topology: str | Topology) -> None:
        self.topology = TOPOLOGIES[topology] if isinstance(topology, str) else topology
        self._realm = Realm()
        try:
            self._build()
        except BaseException:
            self._realm.close()
            raise

    def _build(self) -> None:
        self._guests: list[Host] = []
        self.internet = Internet(self._realm, self.topology)
        user = self.internet.add_site("user", self.topology.user, "user")
        if self.topology.dev is None:
            dev = self.internet.add_host("user", "dev", isolated=self.topology.user.isolates)
        else:
            dev = self.internet.add_site("dev", self.topology.dev, "dev")
        authority = self._authority = Authority() if self.topology.service.is_encrypted else None
        if authority is not None:
            for host in (self.internet.server, user, dev):
                authority.make_known(host)
        self.relays = [
            self.internet.add_relay(number) for number in range(1, self.topology.service.n_relays + 1)
        ]
        self._guests += [relay.host for relay in self.relays]
        self.server = Server(
            self.internet.server, self.internet.server_address, self.topology.service, authority, self.relays
        )
        self.user = Node(user)
        self.dev = Node(dev)

    def __enter__(self) -> Self:
        OPEN.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and not issubclass(kind, KeyboardInterrupt | SystemExit | GeneratorExit):
                sys.stderr.write(self.story())
        finally:
            OPEN.remove(self)
            self._realm.close()
            for process in self.processes:
                process.close()

    @property
    def hosts(self) -> list[Host]:
        """Every machine there is."""
        return [*self.internet.hosts, self.user.host, self.dev.host, *self._guests]

    @property
    def processes(self) -> list[Process]:
        """Everything that was started on any of them and not only run to its end."""
        return [process for host in self.hosts for process in host.processes]

    def story(self) -> str:
        """The ends of all logs, for whoever has to find out what went wrong."""
        return "\n".join(process.tail for process in self.processes) + "\n"

    # ---- coderd

    def join(self, *, server_arguments: Sequence[str] = ()) -> None:
        """Start the server, the workspace and the user's machine, and wait until the two see each other."""
        self.join_dev(server_arguments=server_arguments)
        self.join_user()
        self.user.wait_for_peer("dev")

    def join_dev(self, *, server_arguments: Sequence[str] = ()) -> str:
        """Start the server and the workspace, and wait until it has joined; its tailnet address."""
        self.server.start(*server_arguments)
        self.dev.join_as_workspace(self.server.join_url, self.server.create_workspace("dev"))
        return until(lambda: self.dev.address, "dev to be given its address")

    def join_user(self) -> None:
        """Start the user's machine and enrol it."""
        self.user.host.environment["CODER_URL"] = self.server.url
        self.user.join_as_user(self.server.join_url, self.server.admin_token)

    # ---- the network

    def add_host(self, name: str, site: SiteName | None = None) -> Host:
        """One more machine: with a public address, or on the LAN of a site."""
        host = self.internet.add_host(site, name)
        self._guests.append(host)
        if self._authority is not None:
            self._authority.make_known(host)
        return host

    def block_udp(self, *, to_server_too: bool = False) -> None:
        """Drop UDP between the sites (and, if asked, between them and the server)."""
        self.internet.hold_udp(to_server_too=to_server_too)

    def allow_udp(self) -> None:
        """Let UDP pass again."""
        self.internet.release_udp()

    def udp_held(self, *, to_server_too: bool = False) -> AbstractContextManager[None]:
        """`block_udp` and `allow_udp` as a ``with``."""
        return self.internet.udp_held(to_server_too=to_server_too)

    def capture(
        self, host: Host, expression: str = "", *, interface: str = "eth0"
    ) -> AbstractContextManager[Capture]:
        """Record what passes an interface of a host, with tcpdump's filter language."""
        return capture(host, expression, interface=interface)
