import pytest

from coderd.cli.status_text import peer_state, status_text
from coderd.control.messages import PeerPath, PeerStatus, Region, RelayLink, SelfStatus, ServerStatus, Status
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind

DIRECT = PeerPath(kind=PathKind.DIRECT, via="203.0.113.7:41641", latency_ms=12.0)
RELAY = PeerPath(kind=PathKind.RELAY, via="coder", latency_ms=31.0)
NONE = PeerPath(kind=PathKind.NONE)


def peer(
    path: PeerPath, *, name: str = "ann/dev", online: bool = True, handshake: float | None = 12.0
) -> PeerStatus:
    return PeerStatus(
        name=name,
        id="2",
        kind=NodeKind.WORKSPACE,
        address="fd60:627a:a42b::22",
        online=online,
        node_key="nodekey:01",
        path=path,
        last_handshake_s=handshake,
        tx_bytes=2048,
        rx_bytes=5,
    )


def test_a_peer_s_state_comes_from_the_data_path() -> None:
    assert peer_state(peer(DIRECT)) == "direct 203.0.113.7:41641, 12ms"
    assert peer_state(peer(RELAY)) == 'relay "coder", 31ms'
    assert peer_state(peer(PeerPath(kind=PathKind.RELAY, via="coder"))) == 'relay "coder"'
    assert peer_state(peer(NONE)) == "no path"


def test_without_a_session_a_peer_is_idle_or_offline_whatever_path_there_was() -> None:
    assert peer_state(peer(RELAY, handshake=None)) == "idle"
    assert peer_state(peer(DIRECT, handshake=7 * 3600)) == "idle"
    assert peer_state(peer(RELAY, handshake=None, online=False)) == "offline"
    assert peer_state(peer(DIRECT, handshake=181, online=False)) == "offline"


def test_a_tunnel_that_outlives_the_server_s_knowledge_is_shown_as_it_is() -> None:
    assert (
        peer_state(peer(DIRECT, online=False))
        == "direct 203.0.113.7:41641, 12ms; the server has lost contact with it"
    )


def test_a_relay_on_a_detour_is_shown_with_its_reason_and_one_that_is_not_goes_without_saying() -> None:
    status = Status(
        version="1",
        state="running",
        interface="coder0",
        relays=(
            RelayLink(
                id=1,
                code="fra",
                connected=True,
                transport="websocket",
                why="the proxy answered 426 to the upgrade",
            ),
            RelayLink(id=2, code="nyc", connected=True, transport="derp"),
            RelayLink(id=3, code="syd", connected=False, error="Connection refused"),
        ),
    )
    assert status_text(status).splitlines()[1:] == [
        'relay "fra": WebSocket, because the proxy answered 426 to the upgrade',
        'relay "syd": cannot be reached: Connection refused',
    ]


def test_rows_stand_under_each_other() -> None:
    status = Status(
        version="1",
        state="running",
        interface="coder0",
        self_node=SelfStatus(
            name="ann/laptop", id="1", kind=NodeKind.DEVICE, address="fd60:627a:a42b::1", node_key="k"
        ),
        server=ServerStatus(
            url="http://192.0.2.10:3000", connected=False, since_s=65.0, error="connection refused"
        ),
        home_region=Region(id=999, code="coder"),
        peers=(
            peer(DIRECT),
            peer(RELAY, name="ann/build"),
            peer(NONE, name="ann/old", online=False, handshake=None),
        ),
        health=("no UDP leaves this machine",),
    )
    assert status_text(status) == (
        "ann/laptop  fd60:627a:a42b::1   this machine\n"
        "ann/dev     fd60:627a:a42b::22  direct 203.0.113.7:41641, 12ms  tx 2.0 KiB  rx 5 B  handshake 12s ago\n"
        'ann/build   fd60:627a:a42b::22  relay "coder", 31ms             tx 2.0 KiB  rx 5 B  handshake 12s ago\n'
        "ann/old     fd60:627a:a42b::22  offline\n"
        "\n"
        'server http://192.0.2.10:3000, not connected for 1m: connection refused; home relay "coder"\n'
        "# Health:\n"
        "#   - no UDP leaves this machine\n"
    )


@pytest.mark.parametrize(
    ("ports", "line"),
    [
        (None, "no server; no relay yet"),
        ("none", "accepts no connections from peers"),
        ("all", "accepts connections from peers to all ports"),
        ("22,8000-8999", "accepts connections from peers to ports 22,8000-8999"),
    ],
)
def test_a_device_says_what_it_accepts(ports: str | None, line: str) -> None:
    me = SelfStatus(
        name="ann/laptop", id="1", kind=NodeKind.DEVICE, address="fd60::1", node_key="k", accept_inbound=ports
    )
    status = Status(version="1", state="running", interface="coder0", self_node=me)
    assert status_text(status).splitlines()[-1] == line


def test_before_the_first_map_there_is_only_the_server() -> None:
    status = Status(
        version="1",
        state="connecting",
        interface="coder0",
        server=ServerStatus(url="http://192.0.2.10:3000", connected=False),
    )
    assert status_text(status) == "server http://192.0.2.10:3000, not connected; no relay yet\n"


def test_signed_out_is_one_sentence_and_what_is_wrong() -> None:
    status = Status(version="1", state="logged-out", interface="coder0", health=("the token was revoked",))
    assert status_text(status) == (
        "Not signed in. Join with: sudo coderctl up https://SERVER:3000\n"
        "# Health:\n"
        "#   - the token was revoked\n"
    )
