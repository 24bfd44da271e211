"""The topologies that have names, as data: what stands between the user, dev and the server."""

from lab.topology import (
    EASY,
    EASY_BY_ADDRESS,
    EASY_OPEN,
    HARD,
    NAT_KINDS,
    Service,
    Site,
    Topology,
)

TOPOLOGIES: dict[str, Topology] = {
    "same-lan": Topology("both on one LAN, behind one easy NAT", user=Site(EASY), dev=None),
    "no-nat": Topology("both with public addresses", user=Site(), dev=Site()),
    "easy-nat": Topology(
        "each behind a NAT with endpoint-independent mapping", user=Site(EASY), dev=Site(EASY)
    ),
    "hard-open": Topology(
        "the user behind a hard NAT, dev behind one that filters by address only",
        user=Site(HARD),
        dev=Site(EASY_BY_ADDRESS),
    ),
    "hard-strict": Topology(
        "the user behind a hard NAT, dev behind an easy one that filters by port",
        user=Site(HARD),
        dev=Site(EASY),
    ),
    "hard-nat-both": Topology("each behind a hard NAT", user=Site(HARD), dev=Site(HARD)),
    "udp-blocked": Topology(
        "easy NATs whose firewalls pass TCP alone",
        user=Site(EASY, passes_udp=False),
        dev=Site(EASY, passes_udp=False),
    ),
    "ipv6-only": Topology(
        "no IPv4 anywhere, a stateful firewall at each site",
        user=Site(firewall="stateful"),
        dev=Site(firewall="stateful"),
        family=6,
    ),
    "udp-blocked-here": Topology(
        "easy NATs, the user's passes TCP alone", user=Site(EASY, passes_udp=False), dev=Site(EASY)
    ),
    "hairpin": Topology(
        "on one isolating LAN, behind one NAT that turns around what is meant for its own outer address",
        user=Site(EASY_OPEN, isolates=True, hairpins=True),
        dev=None,
    ),
    "no-hairpin": Topology(
        "on one isolating LAN, behind one NAT that does not", user=Site(EASY_OPEN, isolates=True), dev=None
    ),
    "double-nat": Topology(
        "the user behind two easy NATs in a row, dev behind one",
        user=Site(EASY, upstream=EASY, upstream_net="192.168.100."),
        dev=Site(EASY),
    ),
    "cgnat-easy": Topology(
        "each behind an easy NAT and its carrier's easy NAT, the same 100.64.0.0/24 between them",
        user=Site(EASY, upstream=EASY),
        dev=Site(EASY, upstream=EASY),
    ),
    "cgnat-hard": Topology(
        "the user behind an easy NAT and its carrier's hard one, dev behind an easy one",
        user=Site(EASY, upstream=HARD),
        dev=Site(EASY),
    ),
    "mtu-1280": Topology(
        "easy NATs, the user's link carries 1280 bytes, too few for the tunnel's own 1280 in UDP",
        user=Site(EASY, mtu=1280),
        dev=Site(EASY),
    ),
    "large-swallowed": Topology(
        "easy NATs, packets over 1300 bytes vanish on the user's link, without a word",
        user=Site(EASY, swallows_over=1300),
        dev=Site(EASY),
    ),
    "dual-stack": Topology(
        "hard NATs for IPv4; IPv6 with a stateful firewall at each site",
        user=Site(HARD, firewall="stateful"),
        dev=Site(HARD, firewall="stateful"),
        second=6,
    ),
    "broken-ipv6": Topology(
        "easy NATs for IPv4; IPv6 has addresses and routes, and carries nothing",
        user=Site(EASY),
        dev=Site(EASY),
        second=6,
        second_works=False,
    ),
    "broken-ipv6-hard": Topology(
        "hard NATs for IPv4; IPv6 has addresses and routes, and carries nothing",
        user=Site(HARD),
        dev=Site(HARD),
        second=6,
        second_works=False,
    ),
    "broken-ipv4": Topology(
        "IPv6 with stateful firewalls; IPv4 has addresses and routes, and carries nothing",
        user=Site(firewall="stateful"),
        dev=Site(firewall="stateful"),
        family=6,
        second=4,
        second_works=False,
    ),
    "behind-nginx": Topology(
        "hard NATs, so that all goes by the relay, whose connections nginx takes and upgrades",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(front="nginx"),
    ),
    "behind-haproxy": Topology(
        "hard NATs, so that all goes by the relay, whose connections haproxy takes and upgrades",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(front="haproxy"),
    ),
    "server-forwarded": Topology(
        "easy NATs; the server behind a router that forwards its ports",
        user=Site(EASY),
        dev=Site(EASY),
        service=Service(gate="forwards"),
    ),
    "server-masked": Topology(
        "easy NATs; the server behind a router that forwards its ports and hides who sends",
        user=Site(EASY),
        dev=Site(EASY),
        service=Service(gate="masks"),
    ),
    "server-masked-open": Topology(
        "the user behind an easy NAT, dev public; the server behind a router that hides who sends",
        user=Site(EASY),
        dev=Site(),
        service=Service(gate="masks"),
    ),
    "server-balanced": Topology(
        "easy NATs; a load balancer before the server that passes TCP alone and hides who connects",
        user=Site(EASY),
        dev=Site(EASY),
        service=Service(gate="balances"),
    ),
    "server-balanced-open": Topology(
        "the user behind an easy NAT, dev public; the same load balancer",
        user=Site(EASY),
        dev=Site(),
        service=Service(gate="balances"),
    ),
    "direct-blocked": Topology(
        "both with public addresses; the server allows no direct connections",
        user=Site(),
        dev=Site(),
        service=Service(blocks_direct=True),
    ),
    "websockets-forced": Topology(
        "hard NATs, so that all goes by the relay, to which nodes are told to speak by WebSocket alone",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(websockets_only=True),
    ),
    "websockets-pass": Topology(
        "hard NATs; an nginx before the server that knows of no upgrade but WebSocket",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(front="websockets"),
    ),
    "private-ca": Topology(
        "hard NATs; server and relay speak TLS, with a certificate by the team's own authority",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(is_encrypted=True),
    ),
    "private-ca-nginx": Topology(
        "hard NATs; nginx speaks TLS for the server, with a certificate by the team's own authority",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(front="nginx", is_encrypted=True),
    ),
    "two-regions": Topology(
        "hard NATs; two relays on hosts of their own, none in the server",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(n_relays=2),
    ),
    "region-killed": Topology(
        "hard NATs; two relays, of which the one at which dev listens is killed once data flows",
        user=Site(HARD),
        dev=Site(HARD),
        service=Service(n_relays=2, loses_relay=True),
    ),
}
"""Those with names of their own, for ``scripts/lab run``."""


def nat_grid() -> dict[str, Topology]:
    """Every pair of kinds of NAT.

    Which end has which does not matter to a path, so each pair is there once.
    """
    names = list(NAT_KINDS)
    return {
        f"{one}/{other}": Topology(
            f"{one} and {other}", user=Site(NAT_KINDS[one]), dev=Site(NAT_KINDS[other])
        )
        for at, one in enumerate(names)
        for other in names[at:]
    }
