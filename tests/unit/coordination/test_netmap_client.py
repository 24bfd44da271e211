"""The node's side: messages become a NetMap that only the server's word shrinks."""

import random
from dataclasses import replace
from uuid import UUID

import pytest

from coderd.config.url import parse_server_url
from coderd.coordination.dialled_map import rewrite_embedded_region
from coderd.coordination.entries import update_message
from coderd.coordination.message import (
    MAX_ENDPOINTS,
    Absence,
    DerpMapChanged,
    PeerEntry,
    Peers,
    Removal,
    SelfEntry,
    Welcome,
)
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.saved_netmap import decode_netmap, encode_netmap
from coderd.model.addresses import tailnet_address
from coderd.model.derpmap import EMBEDDED_REGION, DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NetMap
from coderd.model.reachability import NodeUpdate

rng = random.Random(7).randbytes
URL = parse_server_url("http://10.0.0.1:3000")
SELF = UUID(int=1)
DERP_MAP = DerpMap(
    {
        EMBEDDED_REGION: DerpRegion(
            EMBEDDED_REGION,
            "coder",
            "Relay",
            (
                DerpNode("999b", 999, "coder.example.com", cert_name="x", ipv4="192.0.2.1", derp_port=443),
                DerpNode("999s", 999, "coder.example.com", stun_port=3479, stun_only=True),
            ),
        ),
        1: DerpRegion(1, "far", "Far", (DerpNode("1a", 1, "far.example.com"),)),
    }
)


def entry(number: int, **changes: object) -> PeerEntry:
    node_id = UUID(int=number)
    fields: dict[str, object] = {
        "id": node_id,
        "kind": "workspace",
        "name": f"ann/w{number}",
        "node_key": NodePublic(rng(32)).text,
        "disco_key": DiscoPublic(rng(32)).text,
        "address": str(tailnet_address(node_id)),
        "home_region": 999,
        "generation": 1,
        "endpoints": ["192.0.2.1:41641", "[2001:db8::1]:41641"],
    }
    return PeerEntry(**{**fields, **changes})  # type: ignore[arg-type]


def welcome(node_id: UUID = SELF, *, embedded_region: int = EMBEDDED_REGION) -> Welcome:
    self_entry = SelfEntry(node_id, "device", "ann/laptop", str(tailnet_address(node_id)))
    return Welcome(self_entry, derp_map_to_json(DERP_MAP), "token", embedded_region=embedded_region)


def joined(*entries: PeerEntry) -> NetMapClient:
    core = NetMapClient(URL)
    core.handle_message(welcome())
    core.handle_message(Peers(list(entries), full=True))
    return core


def peers(core: NetMapClient) -> dict[int, bool]:
    assert core.netmap is not None
    return {node_id.int: peer.online for node_id, peer in core.netmap.peers.items()}


def test_a_welcome_makes_a_netmap_without_peers() -> None:
    core = NetMapClient(URL)
    netmap = core.handle_message(welcome())
    assert netmap is not None
    assert (netmap.self_node.node_id, netmap.self_node.name, netmap.peers) == (SELF, "ann/laptop", {})


def test_changes_are_returned_and_repetitions_are_not() -> None:
    core = NetMapClient(URL)
    core.handle_message(welcome())
    peer = entry(2)
    assert core.handle_message(Peers([peer])) is not None
    assert core.handle_message(Peers([peer])) is None
    assert core.handle_message(welcome()) is None


def test_a_lost_peer_stays_offline_and_a_disconnected_one_goes() -> None:
    core = joined(entry(2), entry(3), entry(4))
    core.handle_message(
        Peers(
            remove=[
                Removal(UUID(int=2), "lost"),
                Removal(UUID(int=3), "disconnected"),
                Removal(UUID(int=9), "lost"),
            ]
        )
    )
    assert peers(core) == {2: False, 4: True}
    core.handle_message(Peers([entry(2)]))
    assert peers(core) == {2: True, 4: True}


def test_a_full_list_removes_whom_it_does_not_name_but_keeps_the_lost() -> None:
    core = joined(entry(2), entry(3), entry(4))
    core.handle_message(Peers([entry(2)], [Removal(UUID(int=3), "lost")], full=True))
    assert peers(core) == {2: True, 3: False}


def test_a_full_list_in_pieces_takes_effect_when_complete() -> None:
    core = joined(entry(2), entry(3))
    assert core.handle_message(Peers([entry(4)], full=True, more=True)) is None
    assert peers(core) == {2: True, 3: True}
    core.handle_message(Peers([entry(5)], full=True))
    assert peers(core) == {4: True, 5: True}


def test_a_full_list_broken_off_is_forgotten() -> None:
    core = joined(entry(2))
    core.handle_message(Peers([entry(4)], full=True, more=True))
    core.handle_disconnected()
    core.handle_message(Peers([entry(5)]))
    assert peers(core) == {2: True, 5: True}


def test_the_netmap_outlives_connections_but_not_another_identity() -> None:
    core = joined(entry(2))
    core.handle_disconnected()
    assert peers(core) == {2: True}
    core.handle_message(welcome())
    assert peers(core) == {2: True}
    core.handle_message(welcome(UUID(int=77)))
    assert peers(core) == {}


def test_who_is_absent_is_known_by_name_until_denied() -> None:
    core = joined(entry(2))
    absence = Absence(UUID(int=3), "workspace", "ann/w3")
    netmap = core.handle_message(Peers(absent=[absence]))
    assert netmap is not None
    assert [node.name for node in netmap.absent.values()] == ["ann/w3"]
    netmap = core.handle_message(Peers(remove=[Removal(UUID(int=2), "disconnected")]))
    assert netmap is not None
    assert sorted(node.name for node in netmap.absent.values()) == ["ann/w2", "ann/w3"]
    netmap = core.handle_message(Peers([entry(3)], [Removal(UUID(int=2), "denied")]))
    assert netmap is not None
    assert not netmap.absent
    assert decode_netmap(encode_netmap(netmap), str(URL)) == netmap


@pytest.mark.parametrize("reason", ["lost", "disconnected"])
def test_who_may_come_back_is_absent_through_a_full_list_and_who_may_not_is_unknown(reason: str) -> None:
    core = joined(entry(2), entry(3))
    core.forget({UUID(int=2), UUID(int=3)})
    netmap = core.handle_message(Peers(remove=[Removal(UUID(int=2), reason)], full=True))
    assert netmap is not None
    assert list(netmap.absent) == [UUID(int=2)]


def test_a_lost_peer_is_no_absent_one() -> None:
    core = joined(entry(2))
    lost = Peers(remove=[Removal(UUID(int=2), "lost")], absent=[Absence(UUID(int=2), "workspace", "ann/w2")])
    netmap = core.handle_message(lost)
    assert netmap is not None
    assert not netmap.absent
    assert not netmap.peers[UUID(int=2)].online


def test_a_dead_peer_is_forgotten_once() -> None:
    core = joined(entry(2), entry(3))
    assert core.forget({UUID(int=2), UUID(int=9)}) is not None
    assert peers(core) == {3: True}
    assert core.forget({UUID(int=2)}) is None
    assert NetMapClient(URL).forget({UUID(int=2)}) is None


def test_the_embedded_region_is_dialled_by_the_url_that_the_node_was_given() -> None:
    rewritten = rewrite_embedded_region(DERP_MAP, URL)
    first, stun = rewritten.regions[EMBEDDED_REGION].nodes
    assert (first.host_name, first.derp_port, first.force_http, first.ipv4) == ("10.0.0.1", 3000, True, "")
    assert (stun.host_name, stun.stun_port, stun.stun_only) == ("10.0.0.1", 3479, True)
    assert rewritten.regions[1] == DERP_MAP.regions[1]
    tls = rewrite_embedded_region(DERP_MAP, parse_server_url("https://[2001:db8::1]"))
    node = tls.regions[EMBEDDED_REGION].nodes[0]
    assert (node.host_name, node.derp_port, node.force_http) == ("2001:db8::1", 443, False)
    assert rewrite_embedded_region(DerpMap(), URL) == DerpMap()


def test_the_server_says_which_region_it_is_itself_and_files_and_new_maps_keep_to_it() -> None:
    core = NetMapClient(URL)
    netmap = core.handle_message(welcome(embedded_region=1))
    assert netmap is not None
    assert netmap.derp_map.regions[1].nodes[0].host_name == "10.0.0.1"
    assert netmap.derp_map.regions[EMBEDDED_REGION] == DERP_MAP.regions[EMBEDDED_REGION]
    assert core.handle_message(DerpMapChanged(derp_map_to_json(DERP_MAP))) is None
    saved = decode_netmap(encode_netmap(netmap), "http://new.example.com")
    assert saved is not None
    assert saved.derp_map.regions[1].nodes[0].host_name == "new.example.com"
    assert saved.embedded_region == 1


def test_a_server_without_a_relay_has_no_region_that_a_node_could_dial_by_its_url() -> None:
    netmap = NetMapClient(URL).handle_message(welcome(embedded_region=0))
    assert netmap is not None
    assert netmap.derp_map == DERP_MAP


def test_a_new_relay_map_replaces_the_old() -> None:
    core = joined(entry(2))
    netmap = core.handle_message(DerpMapChanged({"Regions": {}}))
    assert netmap is not None
    assert netmap.derp_map.regions == {}
    assert list(netmap.peers) == [UUID(int=2)]


@pytest.mark.parametrize(
    "message",
    [
        Peers([entry(2, address="fd60:627a:a42b::1")]),
        Peers([entry(2, node_key="nodekey:00")]),
        Peers([entry(2, disco_key="")]),
        Peers([entry(2, kind="gateway")]),
        Peers([entry(2, endpoints=["192.0.2.1"])]),
        Peers([entry(2, address="::ffff:1.2.3.4.5")]),
        DerpMapChanged({"Regions": 5}),
    ],
    ids=["foreign address", "short key", "no key", "kind", "endpoint", "address", "map"],
)
def test_a_lie_changes_nothing(message: Peers | DerpMapChanged) -> None:
    core = joined(entry(3))
    with pytest.raises(MalformedPacket):
        core.handle_message(message)
    assert peers(core) == {3: True}


def test_nothing_counts_before_the_welcome() -> None:
    with pytest.raises(MalformedPacket):
        NetMapClient(URL).handle_message(Peers([entry(2)]))


def test_a_netmap_survives_its_file() -> None:
    core = joined(entry(2), entry(3))
    core.handle_message(Peers(remove=[Removal(UUID(int=3), "lost")]))
    assert core.netmap is not None
    assert decode_netmap(encode_netmap(core.netmap), str(URL)) == core.netmap


def test_a_saved_netmap_is_dialled_by_the_url_of_today() -> None:
    core = joined()
    assert core.netmap is not None
    moved = decode_netmap(encode_netmap(core.netmap), "https://new.example.com")
    assert moved is not None
    assert moved.derp_map.regions[EMBEDDED_REGION].nodes[0].host_name == "new.example.com"


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b"\xff", b'{"self":{},"derp_map":{},"peers":[]}']
)
def test_a_damaged_file_is_as_good_as_none(data: bytes) -> None:
    assert decode_netmap(data, str(URL)) is None


def test_an_update_says_at_most_what_the_protocol_takes() -> None:
    endpoints = tuple((("192.0.2.1", port), 1) for port in range(1, 100))
    message = update_message(NodeUpdate(999, endpoints, {2: 0.1, 1: 0.2}), 5)
    assert len(message.endpoints) == MAX_ENDPOINTS
    assert message.endpoints[0].addr == "192.0.2.1:1"
    assert (message.generation, list(message.latencies)) == (5, [1, 2])


def test_a_netmap_starts_from_the_last_one() -> None:
    core = joined(entry(2))
    assert isinstance(core.netmap, NetMap)
    last = replace(core.netmap)
    assert NetMapClient(URL, last).netmap == last
