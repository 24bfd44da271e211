"""The handshake's payloads, ClientInfo and ServerInfo: JSON in NaCl boxes.

Offsets, sizes in bytes, and fields:

    ClientInfo   0  32  client's public key          ServerInfo   0  24  nonce
                32  24  nonce                                    24   …  box
                56   …  box

A box is NaCl's ``crypto_box`` over a JSON object, from the sender's private key to the receiver's public key;
a box that opens proves the sender's key. JSON is read as Go reads it: names match without regard to case,
unknown names and nulls are ignored, a value of an unexpected type is an error.
"""

import json
from dataclasses import dataclass
from typing import Final, NoReturn

from nacl.bindings import crypto_box, crypto_box_open
from nacl.exceptions import CryptoError

from coderd.derp.frame import PROTOCOL_VERSION, FrameType, encode_frame
from coderd.model import RandomBytes, limits
from coderd.model.errors import MalformedPacket
from coderd.model.go_json import Fields
from coderd.model.keys import (
    KEY_SIZE,
    NodePrivate,
    NodePublic,
    PrivateKey,
    PublicKey,
    ServerPrivate,
    ServerPublic,
)

NONCE_SIZE: Final = 24
MIN_CLIENT_INFO_SIZE: Final = KEY_SIZE + NONCE_SIZE
MAX_CLIENT_INFO_SIZE: Final = limits.MAX_DERP_CLIENT_INFO
MAX_SERVER_INFO_SIZE: Final = NONCE_SIZE + (1 << 20)


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client's version, abilities and name. The mesh key is a secret, so the repr leaves it out."""

    version: int = PROTOCOL_VERSION
    can_ack_pings: bool = False
    is_prober: bool = False
    app_name: str = ""
    mesh_key: bytes | None = None

    def __repr__(self) -> str:
        """Returns a text without the mesh key."""
        return f"ClientInfo(version={self.version}, app_name={self.app_name!r}, mesh={self.mesh_key is not None})"

    def to_json(self) -> bytes:
        """Returns compact JSON in the order of Tailscale's clients, without optional empty fields."""
        fields: dict[str, object] = {}
        if self.mesh_key is not None:
            fields["meshKey"] = self.mesh_key.hex()
        fields |= {"version": self.version, "CanAckPings": self.can_ack_pings}
        if self.is_prober:
            fields["IsProber"] = True
        if self.app_name:
            fields["AppName"] = self.app_name
        return _dump(fields)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A relay's version, and the rate and burst that it grants a client, in bytes; 0 is unlimited."""

    version: int = PROTOCOL_VERSION
    token_bucket_bytes_per_second: int = 0
    token_bucket_bytes_burst: int = 0

    def to_json(self) -> bytes:
        """Returns compact JSON, without a rate or burst of 0."""
        fields: dict[str, object] = {"version": self.version}
        if self.token_bucket_bytes_per_second:
            fields["TokenBucketBytesPerSecond"] = self.token_bucket_bytes_per_second
        if self.token_bucket_bytes_burst:
            fields["TokenBucketBytesBurst"] = self.token_bucket_bytes_burst
        return _dump(fields)


def encode_client_info(
    info: ClientInfo, private: NodePrivate, server: ServerPublic, rng: RandomBytes
) -> bytes:
    """Encodes ClientInfo, the client's first frame.

    Raises MalformedPacket if the relay's key is of low order.
    """
    return encode_frame(FrameType.CLIENT_INFO, private.public() + _seal(info.to_json(), private, server, rng))


def parse_client_info(payload: bytes, private: ServerPrivate) -> tuple[NodePublic, ClientInfo]:
    """Parses ClientInfo's payload. Returns the client's key, which its box proves, and the ClientInfo.

    Raises: MalformedPacket.
    """
    if not MIN_CLIENT_INFO_SIZE <= len(payload) <= MAX_CLIENT_INFO_SIZE:
        raise MalformedPacket(f"ClientInfo of {len(payload)} bytes")
    key = NodePublic(payload[:KEY_SIZE])
    return key, parse_client_info_json(_open(payload[KEY_SIZE:], private, key))


def encode_server_info(
    info: ServerInfo, private: ServerPrivate, client: NodePublic, rng: RandomBytes
) -> bytes:
    """Encodes ServerInfo, the relay's answer to ClientInfo.

    Raises MalformedPacket if the key is of low order.
    """
    return encode_frame(FrameType.SERVER_INFO, _seal(info.to_json(), private, client, rng))


def parse_server_info(payload: bytes, private: NodePrivate, server: ServerPublic) -> ServerInfo:
    """Parses ServerInfo's payload, which its box proves to be the relay's. Raises MalformedPacket."""
    if len(payload) > MAX_SERVER_INFO_SIZE:
        raise MalformedPacket(f"ServerInfo of {len(payload)} bytes")
    fields = _load(_open(payload, private, server), "ServerInfo")
    return ServerInfo(
        fields.integer("version"),
        fields.integer("TokenBucketBytesPerSecond"),
        fields.integer("TokenBucketBytesBurst"),
    )


def parse_client_info_json(text: bytes) -> ClientInfo:
    """Parses the JSON of a ClientInfo. Raises MalformedPacket."""
    fields = _load(text, "ClientInfo")
    return ClientInfo(
        version=fields.integer("version"),
        can_ack_pings=fields.flag("CanAckPings"),
        is_prober=fields.flag("IsProber"),
        app_name=fields.text("AppName"),
        mesh_key=_mesh_key(fields),
    )


def _mesh_key(fields: Fields) -> bytes | None:
    """Returns the mesh key, or None where it is absent or all zeros.

    Raises MalformedPacket unless 64 hex digits.
    """
    if "MeshKey" not in fields:
        return None
    value = fields.get("MeshKey")
    if not isinstance(value, str) or len(value) != 2 * KEY_SIZE:
        raise MalformedPacket("the mesh key is not 64 hex digits")
    try:
        key = bytes.fromhex(value)
    except ValueError:
        raise MalformedPacket("the mesh key is not 64 hex digits") from None
    if len(key) != KEY_SIZE:
        raise MalformedPacket("the mesh key is not 64 hex digits")
    return key if any(key) else None


def _seal(plain: bytes, private: PrivateKey, to: PublicKey, rng: RandomBytes) -> bytes:
    nonce = rng(NONCE_SIZE)
    try:
        return nonce + crypto_box(plain, nonce, to, private.raw)
    except CryptoError:
        raise MalformedPacket("the other end's public key has low order") from None


def _open(sealed: bytes, private: PrivateKey, sender: PublicKey) -> bytes:
    try:
        return crypto_box_open(sealed[NONCE_SIZE:], sealed[:NONCE_SIZE], sender, private.raw)
    except (CryptoError, ValueError):
        raise MalformedPacket("a box that does not open") from None


def _dump(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def _load(text: bytes, path: str) -> Fields:
    try:
        value = json.loads(text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedPacket("a box without JSON in it") from None
    return Fields(value, path)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
