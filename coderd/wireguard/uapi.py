r"""Parser and encoder of userspace WireGuard's configuration protocol, which ``wg`` and ``wg-quick`` speak.

```
 get=1\n\n                                  set=1\n key=value\n ... \n
 -> private_key=... listen_port=...         -> errno=0\n\n
    public_key=... allowed_ip=... ...
    errno=0\n\n
```
A request is an operation, lines of ``key=value`` and an empty line; a reply ends in ``errno`` and an empty
line, and the connection stays open for the next. Keys of the device come first; each ``public_key`` begins a
peer, to which the keys after it belong. A ``set`` is parsed as a whole before any of it is applied, so a
refused one changes nothing, whereas wireguard-go applies line by line. ``wg`` works with both.

Source: https://www.wireguard.com/xplatform/ and what wireguard-tools 1.0.20210914 sends.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_network
from typing import NamedTuple, TypeAlias

from coderd.model.addresses import AddrPort, format_addr_port, parse_addr_port
from coderd.model.errors import MalformedPacket
from coderd.model.keys import KEY_SIZE, NodePrivate, NodePublic
from coderd.wireguard.status import Network, PeerStatus

MAX_REQUEST_SIZE = 16 << 20
MAX_LINE_SIZE = 4096
NO_KEY = bytes(KEY_SIZE)
"""Value of a private or preshared key that stands for none: 32 zero bytes."""

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

InterfaceIndex: TypeAlias = Callable[[str], int | None]
"""Function from a network interface's name, or its index in digits, to its index; None if there is no such
one."""


class ConfigurationError(MalformedPacket):
    """Refusal of a request, which has changed nothing.

    Args:
        number: the errno of the reply, positive.
    """

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode.get(number, str(number)))
        self.number = number


class Operation(Enum):
    """Operation of a request, by its first line."""

    GET = "get=1"
    SET = "set=1"


class Request(NamedTuple):
    """Request as it was framed: its operation, and its lines, not yet parsed."""

    operation: Operation
    lines: list[str]

    def __repr__(self) -> str:
        return f"<Request {self.operation.value} of {len(self.lines)} lines>"


class AllowedIpChange(NamedTuple):
    """Prefix that a ``set`` adds to a peer, or removes from it."""

    network: Network
    is_removal: bool = False


@dataclass(slots=True)
class PeerChange:
    """Changes that a ``set`` makes to one peer. None leaves a setting as it is."""

    key: NodePublic
    is_removal: bool = False
    is_update_only: bool = False
    """Whether the peer is not to be created if it does not exist."""
    preshared_key: bytes | None = field(default=None, repr=False)
    endpoint: AddrPort | None = None
    persistent_keepalive: int | None = None
    replaces_allowed_ips: bool = False
    allowed_ips: list[AllowedIpChange] = field(default_factory=list)
    """Changes of prefixes, in the order in which they apply."""


@dataclass(slots=True)
class Change:
    """Changes that a whole, valid ``set`` makes. None leaves a setting as it is."""

    private_key: NodePrivate | None = field(default=None, repr=False)
    is_key_removal: bool = False
    listen_port: int | None = None
    """UDP port; 0 for any free one."""
    fwmark: int | None = None
    """Firewall mark of outgoing datagrams; 0 for none."""
    replaces_peers: bool = False
    peers: list[PeerChange] = field(default_factory=list)


class PeerDescription(NamedTuple):
    """Peer as a ``get`` shows it, preshared key included."""

    status: PeerStatus
    endpoint: AddrPort | None
    preshared_key: bytes
    last_handshake_at: float | None
    """Unix time in seconds; None before the first handshake."""

    def __repr__(self) -> str:
        return f"<PeerDescription {self.status.key!r}>"


class Description(NamedTuple):
    """Device as a ``get`` shows it, private key included."""

    private_key: NodePrivate | None
    listen_port: int
    fwmark: int
    peers: tuple[PeerDescription, ...]

    def __repr__(self) -> str:
        return f"<Description of {len(self.peers)} peers>"


class RequestReader:
    """Splitter of a connection's bytes into requests, whatever the sizes in which they arrive."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._operation: Operation | None = None
        self._lines: list[str] = []
        self._size = 0

    @property
    def is_between_requests(self) -> bool:
        """Whether no part of a request has arrived, so that the connection may end."""
        return self._operation is None and not self._partial

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yields each request that ``data`` completes.

        Raises: MalformedPacket for an unknown operation, a line over 4096 bytes or a request over 16 MiB; the
            connection is then to be closed without a reply.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._partial += line
            whole, self._partial = self._partial, bytearray()
            request = self._take(whole)
            if request is not None:
                yield request
        self._partial += rest
        self._check_size(len(self._partial))

    def finish(self) -> Request | None:
        """Ends the input; returns a ``set`` that lacks only its final empty line, None if none has begun.

        Raises: MalformedPacket for a request that was broken off: a ``get``, or any with half a line.
        """
        operation, lines = self._operation, self._lines
        if operation is None and not self._partial:
            return None
        if operation is not Operation.SET or self._partial:
            raise MalformedPacket("the request was broken off")
        self._operation, self._lines = None, []
        return Request(operation, lines)

    def _take(self, line: bytearray) -> Request | None:
        self._check_size(len(line))
        self._size += len(line) + 1
        text = line.decode("latin-1")
        if self._operation is None:
            try:
                self._operation = Operation(text)
            except ValueError:
                raise MalformedPacket("no such operation") from None
        elif text:
            self._lines.append(text)
        else:
            request = Request(self._operation, self._lines)
            self._operation, self._lines, self._size = None, [], 0
            return request
        return None

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > MAX_LINE_SIZE or self._size + n_bytes > MAX_REQUEST_SIZE:
            raise MalformedPacket("the request is too long")


def parse_get(lines: Sequence[str]) -> None:
    """Checks that a ``get`` has no lines; raises ConfigurationError (EINVAL) otherwise."""
    if lines:
        raise ConfigurationError(errno.EINVAL)


def parse_set(lines: Sequence[str], interface_index: InterfaceIndex) -> Change:
    """Parses all lines of a ``set``.

    Args:
        lines: without the operation and the empty line.
        interface_index: turns the zone of an IPv6 endpoint into an index, which is how ``Change`` has it.

    Raises: ConfigurationError, EPROTO for a line without "=", EINVAL for any other fault.
    """
    change = Change()
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            raise ConfigurationError(errno.EPROTO)
        try:
            _take_line(change, key, value, interface_index)
        except ValueError as error:
            raise (
                error if isinstance(error, ConfigurationError) else ConfigurationError(errno.EINVAL)
            ) from None
    return change


def encode_errno(number: int = 0) -> bytes:
    """Encodes the end of a reply, which is all of a ``set``'s: an errno, 0 or negative, and an empty line."""
    return b"errno=%d\n\n" % number


def encode_get(description: Description) -> bytes:
    """Encodes the whole reply to a ``get``, with errno 0."""
    lines = [*_device_lines(description)]
    for peer in description.peers:
        lines += _peer_lines(peer)
    return "".join(f"{line}\n" for line in lines).encode("ascii") + encode_errno()


# Reading


def _take_line(change: Change, key: str, value: str, interface_index: InterfaceIndex) -> None:
    if key == "public_key":
        change.peers.append(PeerChange(NodePublic(_parse_key(value))))
    elif change.peers:
        _take_peer_line(change.peers[-1], key, value, interface_index)
    else:
        _take_device_line(change, key, value)


def _take_device_line(change: Change, key: str, value: str) -> None:
    match key:
        case "private_key":
            raw = _parse_key(value)
            change.is_key_removal = raw == NO_KEY
            change.private_key = None if change.is_key_removal else NodePrivate(raw)
        case "listen_port":
            change.listen_port = _parse_number(value, 0xFFFF)
        case "fwmark":
            change.fwmark = _parse_number(value, 0xFFFFFFFF)
        case "replace_peers":
            change.replaces_peers = _parse_true(value)
        case _:
            raise ConfigurationError(errno.EINVAL)


def _take_peer_line(peer: PeerChange, key: str, value: str, interface_index: InterfaceIndex) -> None:
    match key:
        case "update_only":
            peer.is_update_only = _parse_true(value)
        case "remove":
            peer.is_removal = _parse_true(value)
        case "preshared_key":
            peer.preshared_key = _parse_key(value)
        case "endpoint":
            peer.endpoint = _parse_endpoint(value, interface_index)
        case "persistent_keepalive_interval":
            peer.persistent_keepalive = _parse_number(value, 0xFFFF)
        case "replace_allowed_ips":
            peer.replaces_allowed_ips = _parse_true(value)
            peer.allowed_ips.clear()
        case "allowed_ip":
            peer.allowed_ips.append(
                AllowedIpChange(_parse_network(value.removeprefix("-")), value.startswith("-"))
            )
        case "protocol_version" if value == "1":
            pass
        case _:
            raise ConfigurationError(errno.EINVAL)


def _parse_key(text: str) -> bytes:
    if len(text) != 2 * KEY_SIZE or not _HEX_DIGITS.issuperset(text):
        raise ValueError("a key has 64 hex digits")
    return bytes.fromhex(text)


def _parse_number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > most:
        raise ValueError(f"not a number from 0 to {most}")
    return int(text)


def _parse_true(text: str) -> bool:
    if text != "true":
        raise ValueError("this key knows no other value than true")
    return True


def _parse_endpoint(text: str, interface_index: InterfaceIndex) -> AddrPort:
    ip, port = parse_addr_port(text)
    if port == 0:
        raise ValueError("port 0 is not a valid destination")
    ip, percent, zone = ip.partition("%")
    if not percent:
        return (ip, port)
    index = interface_index(zone)
    if index is None:
        raise ValueError("no such zone")
    return (f"{ip}%{index}", port)


def _parse_network(text: str) -> Network:
    address, slash, length = text.partition("/")
    if not slash or "%" in address:
        raise ValueError("a prefix is address/length")
    return ip_network((address, _parse_number(length, 128)), strict=False)


# Writing


def _device_lines(description: Description) -> Iterator[str]:
    if description.private_key is not None:
        yield f"private_key={description.private_key.raw.hex()}"
    if description.listen_port:
        yield f"listen_port={description.listen_port}"
    if description.fwmark:
        yield f"fwmark={description.fwmark}"


def _peer_lines(peer: PeerDescription) -> Iterator[str]:
    status = peer.status
    at = peer.last_handshake_at or 0.0
    seconds = int(at)  # separately: a float has too little precision for a Unix time in nanoseconds
    yield f"public_key={status.key.hex()}"
    yield f"preshared_key={peer.preshared_key.hex()}"
    yield "protocol_version=1"
    if peer.endpoint is not None:
        yield f"endpoint={format_addr_port(peer.endpoint)}"
    yield f"last_handshake_time_sec={seconds}"
    yield f"last_handshake_time_nsec={int((at - seconds) * 1_000_000_000)}"
    yield f"tx_bytes={status.tx_bytes}"
    yield f"rx_bytes={status.rx_bytes}"
    yield f"persistent_keepalive_interval={status.persistent_keepalive}"
    for network in status.allowed_ips:
        yield f"allowed_ip={network}"
