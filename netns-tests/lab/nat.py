"""Kinds of NAT as nftables rulesets for a router with the interfaces ``lan`` and ``wan``.

Every one of them drops new inbound in its input hook. Without that, conntrack records a peer's early ping to the
router's own address, our ping to that peer then finds its natural port taken and gets another, and two easy NATs
never meet.

Nothing else needs to stop strangers: a datagram to the router's outer address goes to its input hook unless conntrack
(address-and-port-dependent filtering comes free with it) or a ``dnat`` rule below sends it inside.
"""

from lab.topology import Filtering, Mapping, Nat, Site

PORTS = "mod 20000 offset 20000"
"""Where rules that choose ports themselves choose them: 20000-39999."""


def ruleset(site: Site, wan: str, host: str) -> str:
    """The nftables text that makes a router this kind of site.

    Args:
        site: what the router shall be.
        wan: its outer address.
        host: the inner host that looser filtering than by port delivers to; such a NAT serves one host.
    """
    tables = [INPUT]
    if not site.passes_udp:
        tables.append(NO_UDP)
    if site.firewall == "stateful":
        tables.append(STATEFUL)
    if site.nat is not None:
        tables.append(
            f"table ip nat {{\n{_mapping(site.nat, wan)}\n{_filtering(site.nat.filtering, host)}\n}}"
        )
    return "\n".join(tables)


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


def _mapping(nat: Nat, wan: str) -> str:
    return f"""
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "wan" meta l4proto udp {_source(nat, wan)}
        oifname "wan" masquerade
    }}"""


def _source(nat: Nat, wan: str) -> str:
    match nat.mapping:
        case Mapping.ENDPOINT_INDEPENDENT:  # conntrack keeps the inner port as long as nobody else has it
            return "masquerade"
        case Mapping.ADDRESS_DEPENDENT:
            return f"snat to {wan} : jhash ip daddr {PORTS}"
        case Mapping.ADDRESS_AND_PORT_DEPENDENT if nat.sequential:
            return f"snat to {wan} : numgen inc {PORTS}"
        case Mapping.ADDRESS_AND_PORT_DEPENDENT:
            return "masquerade fully-random"


def _filtering(filtering: Filtering, host: str) -> str:
    match filtering:
        case Filtering.ADDRESS_AND_PORT_DEPENDENT:
            return ""
        case Filtering.ADDRESS_DEPENDENT:
            return SEEN + _deliver("ip saddr @seen ", host)
        case Filtering.ENDPOINT_INDEPENDENT:
            return _deliver("", host)


SEEN = """
    set seen {
        type ipv4_addr
        flags dynamic
        timeout 5m
    }
    chain remember {
        type filter hook forward priority filter
        oifname "wan" meta l4proto udp update @seen { ip daddr }
    }"""


def _deliver(who: str, host: str) -> str:
    return f"""
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "wan" {who}udp dport 1024-65535 dnat to {host}
    }}"""
