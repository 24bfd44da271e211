"""The laboratory: whole internets out of anonymous network namespaces, gone with the process that made them.

::

    topology    the words: kinds of NAT, sites, services
    named       the named topologies, as data
    nat         each kind of NAT as an nftables ruleset
    realm       one pid namespace that holds every process of a laboratory, and dies with us
    process     a program that runs in it: its log, its signals, waiting for what it says
    host        one machine: its own network, /run, /var/lib, /etc and host name
    internet    the routed core, the sites around it, and the UDP between them
    capture     what tcpdump saw on a host
    front       nginx or haproxy before the server
    gate        what the server may be behind: routers that forward to it, a load balancer
    authority   who signs the lab's certificates
    server      ``coderd server`` on a host
    relay       ``coderd derp`` on hosts of their own
    nodes       ``coderd run`` on hosts
    journal     what a daemon's log says happened, and when
    probe       when the first byte gets through the tunnel
    workers     processes that go through many laboratories, some at a time
    laboratory  all of it together: ``with Lab("easy-nat") as lab``
    waiting     polling with a deadline; nothing here sleeps and hopes

Nothing is made in the machine's own namespaces, so there is nothing to undo there: a network namespace lives
as long as the processes in it, those live in one pid namespace, and its first process ends when our end of a
pipe closes, whether we returned, failed, were interrupted or were killed.
"""

from lab.capture import Capture, Packet
from lab.host import Host
from lab.internet import Internet
from lab.laboratory import Lab
from lab.named import TOPOLOGIES
from lab.nodes import Node
from lab.process import LabError, Process, ProgramFailed
from lab.server import Server
from lab.topology import Filtering, Mapping, Nat, Service, Site, Topology
from lab.waiting import until

__all__ = [
    "TOPOLOGIES",
    "Capture",
    "Filtering",
    "Host",
    "Internet",
    "Lab",
    "LabError",
    "Mapping",
    "Nat",
    "Node",
    "Packet",
    "Process",
    "ProgramFailed",
    "Server",
    "Service",
    "Site",
    "Topology",
    "until",
]
