"""Netcheck: how far the relays are, what the NATs on the way do, and which relay to call home.

Pure but for ``io``.

netcheck             one report after another, their history: what a parent holds
run                  one report's probes and replies
plan                 which probes a run sends, and when
target               a relay node's STUN address
findings             what a run has learned so far
report               the result, frozen
nat                  what a report says of the NAT, in the words of RFC 4787
nat_behavior         NAT behavior discovery (RFC 5780): questions to a STUN server, and their answers' meaning
server_reachability  what stands before the server
mapped_address       whether what a STUN server saw may be this node
facts                what one end of a tunnel tells the other of its network
home                 the choice of the home region
io                   latency by HTTPS or HTTP, where UDP is silent
"""

from coderd.netcheck.facts import Facts
from coderd.netcheck.home import HomeQuestion, choose_home
from coderd.netcheck.mapped_address import ForeignAddress, HostAddresses
from coderd.netcheck.nat import Mapping, mapping_of
from coderd.netcheck.netcheck import Netcheck
from coderd.netcheck.report import Report
from coderd.netcheck.run import HttpsProbe, ProbeRequest, StunProbe
from coderd.netcheck.target import Family, Resolved, stun_target

__all__ = [
    "Facts",
    "Family",
    "ForeignAddress",
    "HomeQuestion",
    "HostAddresses",
    "HttpsProbe",
    "Mapping",
    "Netcheck",
    "ProbeRequest",
    "Report",
    "Resolved",
    "StunProbe",
    "choose_home",
    "mapping_of",
    "stun_target",
]
