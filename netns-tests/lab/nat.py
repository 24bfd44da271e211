"""Kinds of NAT as nftables rulesets for a router with the interfaces ``lan`` and ``wan``.

Every one of them drops new inbound in its input hook. Without that, conntrack records a peer's early ping to
the router's own address, our ping to that peer then finds its natural port taken and gets another, and two
easy NATs never meet.

Nothing else needs to stop strangers: a datagram to the router's outer address goes to its input hook unless
conntrack (address-and-port-dependent filtering comes free with it) or a ``dnat`` rule below sends it inside.

Looser filtering keeps a table of its own of the outer ports in use: ``inner`` says whose each is, ``spoken``
which addresses were spoken to from it. Both are written after translation and only by what inner hosts begin.
"""

from lab.topology import Filtering, Mapping, Nat, Site

PORTS = "mod 20000 offset 20000"
"""Where rules that choose ports themselves choose them: 20000-39999."""


def ruleset(site: Site, wan: str) -> str:
    """The nftables text that makes a router this kind of site.

    Args:
        site: what the router shall be.
        wan: its outer address.
    """
    tables = [INPUT]
    if not site.passes_udp:
        tables.append(NO_UDP)
    if site.firewall == "stateful":
        tables.append(STATEFUL)
    if site.swallows_over is not None:
        tables.append(SWALLOWING.format(longest=site.swallows_over, mss=site.swallows_over - 40))
    if site.nat is not None:
        tables.append(translation(site.nat, wan, hairpins=site.hairpins))
    return "\n".join(tables)


def translation(nat: Nat, wan: str, *, hairpins: bool = False) -> str:
    """The table that makes a kind of NAT of a router."""
    source = BY_INNER_PORT.format(wan=wan) if hairpins else _source(nat, wan)
    chains = [MAPPING.format(source=source)]
    if nat.filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT:
        chains += [REMEMBERED, _let_in(nat.filtering)]
    if hairpins:
        chains.append(HAIRPIN.format(wan=wan, source=source))
    return "table ip nat {\n" + "\n".join(chains) + "\n}"


INPUT = """
table inet guard {
    chain input {
        type filter hook input priority filter
        iifname "wan" ct state new meta l4proto { tcp, udp } drop
    }
}"""

NO_UDP = """
table inet no_udp {
    counter stopped {}
    chain forward {
        type filter hook forward priority filter
        meta l4proto udp counter name stopped drop
    }
}"""

STATEFUL = """
table inet stateful {
    chain forward {
        type filter hook forward priority filter
        iifname "wan" ct state new drop
    }
}"""


SWALLOWING = """
table inet swallowing {{
    chain forward {{
        type filter hook forward priority filter
        tcp flags syn tcp option maxseg size set {mss}
        meta l4proto udp meta length > {longest} drop
    }}
}}"""  # UDP alone: TCP comes through here in packets of many segments, which are cut up later

MAPPING = """
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "wan" meta l4proto udp {source}
        oifname "wan" masquerade
    }}"""

BY_INNER_PORT = "snat to {wan} : jhash ip saddr . udp sport mod 20000 seed 0x1 offset 20000"
"""Endpoint-independent also when two inner hosts use the same port, which ``masquerade`` is not."""


def _source(nat: Nat, wan: str) -> str:
    match nat.mapping:
        case Mapping.ENDPOINT_INDEPENDENT:  # conntrack keeps the inner port as long as nobody else has it
            return "masquerade"
        case Mapping.ADDRESS_DEPENDENT:
            return f"snat to {wan} : jhash ip daddr . udp sport {PORTS}"
        case Mapping.ADDRESS_AND_PORT_DEPENDENT if nat.sequential:
            return f"snat to {wan} : numgen inc {PORTS}"
        case Mapping.ADDRESS_AND_PORT_DEPENDENT:
            return "masquerade fully-random"


REMEMBERED = """
    map inner {
        type inet_service : ipv4_addr . inet_service
        flags dynamic, timeout
        timeout 5m
    }
    set spoken {
        type inet_service . ipv4_addr
        flags dynamic, timeout
        timeout 5m
    }
    chain remember {
        type filter hook postrouting priority srcnat + 10
        oifname "wan" meta l4proto udp ct direction original jump note
    }
    chain note {
        update @inner { udp sport : ct original ip saddr . ct original proto-src }
        update @spoken { udp sport . ip daddr }
    }"""


def _let_in(filtering: Filtering) -> str:
    who = "udp dport . ip saddr @spoken " if filtering is Filtering.ADDRESS_DEPENDENT else ""
    return f"""
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "wan" meta l4proto udp {who}dnat ip to udp dport map @inner
    }}"""


HAIRPIN = """
    chain turn_in {{
        type nat hook prerouting priority dstnat
        iifname "lan" ip daddr {wan} meta l4proto udp dnat ip to udp dport map @inner
    }}
    chain turn_out {{
        type nat hook postrouting priority srcnat
        oifname "lan" meta l4proto udp ct status dnat iifname "lan" {source}
    }}"""
