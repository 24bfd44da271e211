"""What ``coderctl netcheck`` shows of regions."""

import msgspec

from coderd.cli.netcheck import netcheck_text
from coderd.control.messages import Netcheck, RegionDistance

FOUND = msgspec.convert(
    {
        **dict.fromkeys(("UDP", "IPv4", "IPv6", "IPv4CanSend", "IPv6CanSend", "OSHasIPv6"), True),
        **{f"Region{kind}Latency": {} for kind in ("", "V4", "V6")},
        **{f"GlobalV{family}Counters": {} for family in (4, 6)},
        "MappingVariesByDestIP": False,
        "PreferredDERP": 1,
        "GlobalV4": "198.51.100.1:1",
        "GlobalV6": "",
    },
    Netcheck,
)


def test_a_region_that_only_answers_stun_is_not_called_a_relay() -> None:
    regions = (
        RegionDistance(id=1000, code="coder_stun_1000", name="x", latency_ms=1.0, relay=False),
        RegionDistance(id=1, code="far", name="Far", latency_ms=20.0, preferred=True),
    )
    lines = netcheck_text(msgspec.structs.replace(FOUND, regions=regions)).splitlines()
    assert any(line.startswith('STUN "coder_stun_1000"') for line in lines)
    assert any(line.startswith('relay "far"') and line.endswith("home") for line in lines)
