"""The stock ``wg`` against ``coderd wireguard``.

Everything that it can show and set, and what it must be told when it cannot.
"""

import base64
import os
from collections.abc import Iterator

import pytest
from lab import Host, Lab, ProgramFailed, until
from tunnels import connected, start_ours, uapi_connection

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow]

INTERFACE = "wgt0"
REFUSED_PORT = "Address already in use"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab("no-nat") as lab:
        start_ours(lab.user.host, INTERFACE)
        yield lab.user.host


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "host" in request.fixturenames:
        setconf(request.getfixturevalue("host"), "[Interface]\n")


def wg(host: Host, *arguments: str, input: str | None = None) -> str:
    return host.run(["wg", *arguments], input=input).stdout


def setconf(host: Host, config: str, verb: str = "setconf") -> None:
    wg(host, verb, INTERFACE, "/dev/stdin", input=config)


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def private_key(host: Host) -> str:
    return wg(host, "genkey").strip()


def ask(host: Host, *pieces: bytes) -> bytes:
    """What the daemon answers to bytes, until it has answered in full or closed."""
    with uapi_connection(host, INTERFACE) as sock:
        for piece in pieces:
            sock.sendall(piece)
        reply = b""
        while not reply.endswith(b"\n\n") and (data := sock.recv(65536)):
            reply += data
    return reply


def test_a_fresh_interface_has_nothing_but_a_name(host: Host) -> None:
    assert wg(host, "show", "interfaces").split() == [INTERFACE]
    assert wg(host, "show", INTERFACE, "dump").split() == ["(none)", "(none)", "0", "off"]


def test_every_key_that_wg_sets_is_shown_again(host: Host) -> None:
    private, peer, psk = private_key(host), key(), key()
    host.path("/run/private").write_text(private)
    host.path("/run/psk").write_text(psk)
    words = f"private-key /run/private listen-port 51820 fwmark 0x20 peer {peer} preshared-key /run/psk"
    words += " endpoint 192.0.2.9:1000 persistent-keepalive 25 allowed-ips 10.0.0.5/24,fd00::5/64,1.2.3.4"
    wg(host, "set", INTERFACE, *words.split())
    device, shown = (line.split("\t") for line in wg(host, "show", INTERFACE, "dump").splitlines())
    public = wg(host, "pubkey", input=private).strip()
    assert device == [private, public, "51820", "0x20"]
    allowed = "10.0.0.0/24,fd00::/64,1.2.3.4/32"
    assert shown == [peer, psk, "192.0.2.9:1000", allowed, "0", "0", "0", "25"]
    assert wg(host, "show", "all", "dump").splitlines()[1] == "\t".join([INTERFACE, *shown])
    words = f"private-key /dev/null fwmark off listen-port 0 peer {peer} preshared-key /dev/null"
    wg(host, "set", INTERFACE, *words.split(), "persistent-keepalive", "off", "allowed-ips", "")
    device, shown = (line.split("\t") for line in wg(host, "show", INTERFACE, "dump").splitlines())
    assert device == ["(none)", "(none)", "0", "off"]
    assert shown == [peer, "(none)", "192.0.2.9:1000", "(none)", "0", "0", "0", "off"]


def test_showconf_gives_back_what_setconf_took_and_addconf_adds(host: Host) -> None:
    first, second = key(), key()
    config = (
        f"[Interface]\nListenPort = 51820\nFwMark = 0x7\nPrivateKey = {private_key(host)}\n\n[Peer]\n"
        f"PublicKey = {first}\nPresharedKey = {key()}\nAllowedIPs = 10.0.0.0/24, fd00::/64\n"
        "Endpoint = [2001:db8::9]:1000\nPersistentKeepalive = 25\n"
    )
    for _ in range(2):
        setconf(host, config)
        assert wg(host, "showconf", INTERFACE) == config
    setconf(host, f"[Peer]\nPublicKey = {second}\nAllowedIPs = 10.1.0.0/16\n", "addconf")
    assert wg(host, "showconf", INTERFACE).startswith(config)
    assert wg(host, "show", INTERFACE, "peers").split() == [first, second]
    setconf(host, f"[Peer]\nPublicKey = {second}\n")
    assert wg(host, "show", INTERFACE, "peers").split() == [second]


def test_a_prefix_moves_to_whom_it_is_given(host: Host) -> None:
    first, second = key(), key()
    wg(host, "set", INTERFACE, "peer", first, "allowed-ips", "10.0.0.0/24,10.0.1.0/24")
    wg(host, "set", INTERFACE, "peer", second, "allowed-ips", "10.0.1.0/24")
    assert wg(host, "show", INTERFACE, "allowed-ips").split("\n")[:2] == [
        f"{first}\t10.0.0.0/24",
        f"{second}\t10.0.1.0/24",
    ]


def test_removing_whom_nobody_knows_is_no_error_and_leaves_nothing(host: Host) -> None:
    wg(host, "set", INTERFACE, "peer", key(), "remove")
    assert wg(host, "show", INTERFACE, "peers") == ""


def test_a_port_that_is_taken_is_refused_and_all_stays_as_it_was(host: Host) -> None:
    with host.udp("0.0.0.0") as taken:
        port = str(taken.getsockname()[1])
        for state in ("down", "up"):
            host.ip(f"link set {INTERFACE} {state}")
            setconf(host, "[Interface]\nListenPort = 51820\n")
            with pytest.raises(ProgramFailed, match=REFUSED_PORT):
                wg(host, "set", INTERFACE, "listen-port", port, "fwmark", "9", "peer", key())
            assert wg(host, "show", INTERFACE, "dump").split() == ["(none)", "(none)", "51820", "off"]
    host.ip(f"link set {INTERFACE} down")


def test_sockets_are_there_while_the_link_is_up_with_port_and_mark(host: Host) -> None:
    setconf(host, "[Interface]\nListenPort = 51820\nFwMark = 0x21\n")
    assert _bound(host) == set()
    host.ip(f"link set {INTERFACE} up")
    until_bound(host, {"0.0.0.0:51820 fwmark:0x21", "[::]:51820 fwmark:0x21"})
    wg(host, "set", INTERFACE, "fwmark", "0x22")
    until_bound(host, {"0.0.0.0:51820 fwmark:0x22", "[::]:51820 fwmark:0x22"})
    wg(host, "set", INTERFACE, "listen-port", "0", "fwmark", "0")
    chosen = wg(host, "show", INTERFACE, "listen-port").strip()
    until_bound(host, {f"0.0.0.0:{chosen}", f"[::]:{chosen}"})
    wg(host, "set", INTERFACE, "listen-port", "0")
    assert wg(host, "show", INTERFACE, "listen-port").strip() == chosen
    host.ip(f"link set {INTERFACE} down")
    until_bound(host, set())


def test_a_port_that_somebody_took_meanwhile_keeps_the_tunnel_down_until_there_is_another(host: Host) -> None:
    setconf(host, "[Interface]\nListenPort = 51823\n")
    with host.udp("0.0.0.0", 51823):
        host.ip(f"link set {INTERFACE} up")
        wg(host, "set", INTERFACE, "listen-port", "51824")
        until_bound(host, {"0.0.0.0:51823", "0.0.0.0:51824", "[::]:51824"})
    host.ip(f"link set {INTERFACE} down")


def test_a_thousand_peers_in_one_setconf(host: Host) -> None:
    config = "".join(
        f"[Peer]\nPublicKey={key()}\nAllowedIPs=10.{i >> 8}.{i & 255}.0/24,fd00:{i:x}::/64\n"
        for i in range(1000)
    )
    setconf(host, config)
    assert len(wg(host, "show", INTERFACE, "peers").split()) == 1000
    setconf(host, "[Interface]\n")
    assert wg(host, "show", INTERFACE, "peers") == ""


def test_a_request_may_come_in_any_pieces_and_several_on_one_connection(host: Host) -> None:
    request = (
        b"set=1\npublic_key=" + bytes(range(32)).hex().encode() + b"\nallowed_ip=10.0.0.0/8\n\nget=1\n\n"
    )
    with uapi_connection(host, INTERFACE) as sock:
        for byte in request:
            sock.sendall(bytes([byte]))
        reply = b""
        while reply.count(b"errno=") < 2:
            reply += sock.recv(65536)
    assert reply.startswith(b"errno=0\n\n")
    assert b"\nallowed_ip=10.0.0.0/8\nerrno=0\n\n" in reply


def test_two_clients_at_once_and_one_that_says_nothing(host: Host) -> None:
    with uapi_connection(host, INTERFACE), uapi_connection(host, INTERFACE) as half:
        half.sendall(b"set=1\nlisten_port=1")
        assert ask(host, b"get=1\n\n").endswith(b"errno=0\n\n")
        half.sendall(b"2345\n\n")
        assert half.recv(100) == b"errno=0\n\n"
    assert wg(host, "show", INTERFACE, "listen-port") == "12345\n"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"set=1\nlisten_port=70000\n\n", b"errno=-22\n\n"),
        (b"set=1\nfwmark=9\nnonsense\n\n", b"errno=-71\n\n"),
        (b"set=1\nfwmark=9\npublic_key=00\n\n", b"errno=-22\n\n"),
        (b"get=1\nfwmark=9\n\n", b"errno=-22\n\n"),
        (b"get=2\n\n", b""),
        (b"\n", b""),
        (b"\xff\x00" * 3000, b""),
    ],
)
def test_garbage_is_answered_with_an_errno_or_not_at_all_and_changes_nothing(
    host: Host, request_: bytes, reply: bytes
) -> None:
    assert ask(host, request_) == reply
    assert wg(host, "show", INTERFACE, "dump").split() == ["(none)", "(none)", "0", "off"]


def test_syncconf_keeps_the_sessions_of_who_stays() -> None:
    with connected() as (ours, theirs):
        ours.ping(theirs)
        handshake = ours.show("latest-handshakes")
        config = ours.wg("showconf", ours.interface)
        ours.wg("syncconf", ours.interface, "/dev/stdin", input=config)
        assert ours.show("latest-handshakes") == handshake
        assert int(ours.show("transfer").split()[0]) > 0
        ours.ping(theirs)
        assert ours.show("latest-handshakes") == handshake, "the session went on"
        ours.wg("setconf", ours.interface, "/dev/stdin", input=config)
        assert ours.show("latest-handshakes") == "0", "setconf replaces peers, sessions and all"
        ours.ping(theirs)


def test_a_keepalive_that_is_turned_on_is_sent_at_once_and_makes_a_session() -> None:
    with connected() as (ours, theirs):
        assert ours.show("latest-handshakes") == "0"
        ours.wg("set", ours.interface, "peer", theirs.public, "persistent-keepalive", "1")
        theirs.ping(ours)
        assert int(ours.show("latest-handshakes")) > 0


def _bound(host: Host) -> set[str]:
    """The UDP sockets of a host: address, and mark if there is one."""
    lines = host.run(["ss", "-Hlune"]).stdout.splitlines()
    return {
        " ".join([line.split()[3], *(w for w in line.split() if w.startswith("fwmark"))]) for line in lines
    }


def until_bound(host: Host, wanted: set[str]) -> None:
    until(lambda: _bound(host) == wanted, f"the sockets to be {wanted}", timeout=5)
