"""What stands at the server's public address where the server itself has a private one.

::

    core ── wan 192.0.2.10 [ gate ] 192.168.7.1 ── 192.168.7.2 server

A router that forwards ports; the same hiding who sends, as routers do whose owner wants the server to have no
route back; or a machine with haproxy in its TCP mode, as a cloud's load balancer, that knows nothing of UDP.
"""

from lab.front import start_front
from lab.host import Host
from lab.nat import INPUT
from lab.topology import Gate

HTTP_PORT = 3000
STUN_PORTS = (3478, 3479)

ROUTER = """
table ip gate {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "wan" ip daddr {outer} tcp dport {http} dnat to {server}
        iifname "wan" ip daddr {outer} udp dport {{ {stun} }} dnat to {server}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "wan" masquerade
        {mask}
    }}
}}"""

MASK = 'oifname "lan" ct status dnat masquerade'


def stand_before(server: str, host: Host, kind: Gate, outer: str) -> None:
    """Make a host with the interfaces ``wan`` and ``lan`` this kind of gate.

    Args:
        server: the server's private address.
        host: the gate.
        kind: what it shall be.
        outer: its public address.
    """
    if kind == "balances":
        start_front(host, "balancer", (outer, HTTP_PORT), (server, HTTP_PORT))
        return
    stun = ", ".join(map(str, STUN_PORTS))
    mask = MASK if kind == "masks" else ""
    host.nft(INPUT + ROUTER.format(outer=outer, server=server, http=HTTP_PORT, stun=stun, mask=mask))
