"""End-to-end encryption, proved.

What the server relays, what it can know, and that the bytes are really there.

::

    user ──[UDP blocked]── core ──[UDP blocked]── dev
                            │
                         server   a capture here sees all that is relayed

The user's machine sends a known text to dev through the relay. In the capture every relayed payload is
WireGuard or disco, and the text is absent; with both nodes' private keys, the ephemeral ones included, it
comes out whole. The long-term keys alone would not do: the handshake has forward secrecy. So the nodes run
here under a launcher that notes every 32-byte draw of randomness, and nothing else is changed.
"""

import re
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from lab import Capture, Lab, Node

from coderd.daemon.state import NodeState
from coderd.disco import looks_like_disco
from coderd.model.keys import NodePrivate
from coderd.wireguard.message import Initiation, Response, parse_handshake
from coderd.wireguard.noise import Identity, Remote, TransportKeys, open_static
from coderd.wireguard.transport import make_cipher, open_batch

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

SECRET = b"the quick brown fox crosses the relay unseen; "
N_REPEATS = 40_000

LAUNCHER = f"""#!{sys.executable}
import os, sys
draws = open("/run/draws", "ab", 0)
genuine = os.urandom
def noting(n):
    drawn = genuine(n)
    if n == 32:
        draws.write(drawn)
    return drawn
os.urandom = noting
from coderd.cli.coderd import main
sys.exit(main())
"""

RECEIVE = """
import socket, sys
server = socket.create_server((sys.argv[1], 5555), family=socket.AF_INET6)
print("listening", flush=True)
connection, _ = server.accept()
total = 0
while data := connection.recv(1 << 16):
    total += len(data)
print("received", total, flush=True)
"""

SEND = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 5555))
connection.sendall(sys.argv[2].encode() * int(sys.argv[3]))
connection.close()
"""

MIN_TRANSPORT = 32
TRANSPORT = struct.Struct("<IIQ")


class Relayed(NamedTuple):
    """All that went through the relay, and who could have read it."""

    capture: Capture
    payloads: list[bytes]
    private_keys: dict[str, NodePrivate]
    draws: list[bytes]
    server_memory: list[bytes]
    server_files: list[bytes]


@pytest.fixture(scope="module")
def relayed() -> Iterator[Relayed]:
    with Lab("udp-blocked") as lab:
        for node in (lab.user, lab.dev):
            install_launcher(node)
        lab.server.start()
        with lab.capture(lab.server.host, "tcp port 3000") as capture:
            lab.dev.join_as_workspace(lab.server.url, lab.server.create_workspace("dev"))
            lab.user.join_as_user(lab.server.url, lab.server.admin_token)
            lab.user.wait_for_peer("dev")
            transfer(lab)
        assert lab.server.daemon is not None
        yield Relayed(
            capture,
            list(relayed_payloads(capture)),
            {node.name: private_key(node) for node in (lab.user, lab.dev)},
            [draw for node in (lab.user, lab.dev) for draw in draws(node)],
            list(memory_of(lab.server.daemon.pid)),
            [
                path.read_bytes()
                for path in lab.server.host.path(lab.server.state_dir).rglob("*")
                if path.is_file()
            ],
        )


def install_launcher(node: Node) -> None:
    directory = node.host.path("/run/launcher")
    directory.mkdir()
    launcher = directory / "coderd"
    launcher.write_text(LAUNCHER, encoding="ascii")
    launcher.chmod(0o755)
    node.host.environment["PATH"] = f"/run/launcher:{node.host.environ()['PATH']}"


def transfer(lab: Lab) -> None:
    peer = lab.user.peer("dev")
    assert peer is not None
    assert peer["path"]["kind"] == "relay"
    with lab.dev.host.start(["python3", "-c", RECEIVE, peer["address"]], name="receiver") as receiver:
        receiver.wait_for("listening")
        lab.user.run(["python3", "-c", SEND, peer["address"], SECRET.decode(), str(N_REPEATS)], timeout=60)
        receiver.wait_for(f"received {len(SECRET) * N_REPEATS}")


def private_key(node: Node) -> NodePrivate:
    import msgspec

    state = node.host.path(f"{node.state_dir}/node.json").read_bytes()
    return msgspec.json.decode(state, type=NodeState).private_key()


def draws(node: Node) -> list[bytes]:
    noted = node.host.path("/run/draws").read_bytes()
    return [noted[at : at + 32] for at in range(0, len(noted), 32)]


def memory_of(pid: int) -> Iterator[bytes]:
    """Every readable mapping of a process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if bounds is None or "[v" in line:
                continue
            start, end = (int(bound, 16) for bound in bounds.groups())
            memory.seek(start)
            yield memory.read(end - start)


def tcp_streams(capture: Capture) -> list[bytes]:
    """The bytes of each direction of each TCP connection, reassembled."""
    segments: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    starts: dict[bytes, int] = {}
    for packet in capture.packets():
        ip = packet.frame[14:]
        if ip[0] >> 4 != 4 or ip[9] != 6:
            continue
        header = (ip[0] & 15) * 4
        tcp = ip[header : int.from_bytes(ip[2:4])]
        flow, seq = ip[12:20] + tcp[:4], int.from_bytes(tcp[4:8])
        if tcp[13] & 2:
            starts[flow] = seq + 1
        elif flow in starts and (payload := tcp[(tcp[12] >> 4) * 4 :]):
            segments[flow][(seq - starts[flow]) % 2**32] = payload
    return [assemble(found) for found in segments.values()]


def assemble(segments: dict[int, bytes]) -> bytes:
    """Segments by offset to one string, up to the first gap."""
    stream = bytearray()
    for offset, payload in sorted(segments.items()):
        if offset > len(stream):
            break
        stream += payload[len(stream) - offset :]
    return bytes(stream)


def relayed_payloads(capture: Capture) -> Iterator[bytes]:
    """The payload of every SendPacket frame that nodes sent to the relay."""
    for stream in tcp_streams(capture):
        if not stream.startswith(b"GET /derp "):
            continue
        at = stream.index(b"\r\n\r\n") + 4
        while at + 5 <= len(stream):
            kind, length = stream[at], int.from_bytes(stream[at + 1 : at + 5])
            body = stream[at + 5 : at + 5 + length]
            at += 5 + length
            if kind == 4 and len(body) == length:
                yield body[32:]


def is_wireguard(payload: bytes) -> bool:
    kind = int.from_bytes(payload[:4], "little")
    sizes = {1: 148, 2: 92, 3: 64}
    return len(payload) == sizes[kind] if kind in sizes else kind == 4 and len(payload) >= MIN_TRANSPORT


def sessions(found: Relayed) -> Iterator[tuple[int, TransportKeys]]:
    """The keys of every handshake in the capture, by the responder's index."""
    identities = {key.public(): Identity(key) for key in found.private_keys.values()}
    ephemerals = {NodePrivate(draw).public(): draw for draw in found.draws}
    initiations: dict[int, Initiation] = {}
    responses: list[Response] = []
    for payload in found.payloads:
        if len(payload) not in (148, 92) or looks_like_disco(payload):
            continue
        match parse_handshake(payload):
            case Initiation() as initiation:
                initiations[initiation.sender] = initiation
            case Response() as response:
                responses.append(response)
    for response in responses:
        for identity in identities.values():
            keys = keys_of(initiations.get(response.receiver), response, identity, ephemerals)
            if keys is not None:
                yield response.sender, keys


def keys_of(
    initiation: Initiation | None, response: Response, identity: Identity, ephemerals: dict[bytes, bytes]
) -> TransportKeys | None:
    """Repeats the responder's part of a handshake with its private keys."""
    ephemeral = next(
        (draw for public, draw in ephemerals.items() if bytes(public) == response.ephemeral), None
    )
    if initiation is None or ephemeral is None:
        return None
    try:
        opened = open_static(initiation, identity)
        shared = identity.exchange(opened.claimed)
        opened.open_timestamp(shared)
    except ValueError:
        return None
    remote = Remote(opened.claimed, shared)
    again, keys = opened.create_response(remote, ephemeral=ephemeral, sender=response.sender)
    assert again == response
    return keys


def test_everything_that_was_relayed_is_wireguard_or_disco(relayed: Relayed) -> None:
    assert len(relayed.payloads) > 100
    for payload in relayed.payloads:
        assert looks_like_disco(payload) or is_wireguard(payload)


def test_the_plaintext_is_nowhere_in_the_capture(relayed: Relayed) -> None:
    assert len(relayed.capture.raw) > len(SECRET) * N_REPEATS
    assert SECRET[:16] not in relayed.capture.raw


def test_the_nodes_private_keys_recover_the_plaintext(relayed: Relayed) -> None:
    ciphers = {index: make_cipher(keys.receive) for index, keys in sessions(relayed)}
    assert ciphers
    datagrams = [payload for payload in relayed.payloads if payload[:4] == b"\x04\0\0\0"]
    recovered = bytearray()
    for datagram in datagrams:
        _, index, _ = TRANSPORT.unpack_from(datagram)
        if (cipher := ciphers.get(index)) is not None:
            recovered += b"".join(open_batch(cipher, [datagram])[1])
    assert recovered.count(SECRET) > N_REPEATS * 0.8  # the rest lies across the edges of packets


def test_the_server_never_holds_a_private_key_of_a_node(relayed: Relayed) -> None:
    haystacks = relayed.server_memory + relayed.server_files
    assert relayed.server_files
    assert sum(map(len, relayed.server_memory)) > 10_000_000
    for key in relayed.private_keys.values():
        public = key.public()
        assert any(public in hay or public.hex().encode() in hay for hay in haystacks), (
            "the search itself works"
        )
        for form in (key.raw, key.raw.hex().encode()):
            assert not any(form in hay for hay in haystacks)
