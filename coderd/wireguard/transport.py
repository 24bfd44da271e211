"""Seal and open: all the per-packet cryptography, two functions over bytes and integers without any policy.

The contract, which any twin of these in another language must keep to the byte:

``seal_batch(cipher, receiver_index, counter, packets, mtu) -> list[bytes]``
    One datagram per packet, in order, under the counters ``counter, counter + 1, ...``. A packet is padded with zeros
    to a multiple of 16 but never past ``mtu`` (0: no limit). An empty packet becomes a keepalive of 32 bytes. The caller
    sees to it that no counter is ever used twice or reaches the limit.

``open_batch(cipher, datagrams) -> tuple[list[int], list[bytes]]``
    The counters and plaintexts, padding included, of those datagrams that authenticate, in order; the others are left
    out. Every datagram has at least 32 bytes; its type and index were the caller's to check. Nothing is remembered:
    replay is judged afterwards, by counter, so a forged packet can never burn one.

``cipher = make_cipher(key)`` is made once per keypair and direction: keying costs as much as a packet.
"""

import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from coderd.model import Buffer
from coderd.wireguard.message import TRANSPORT

Cipher: TypeAlias = ChaCha20Poly1305

make_cipher = ChaCha20Poly1305

_encode_header = struct.Struct("<IIQ").pack
_encode_nonce = struct.Struct("<4xQ").pack
_decode_counter = struct.Struct("<8xQ").unpack_from


def padding(size: int, mtu: int) -> int:
    """How many zero bytes a packet of ``size`` bytes gets."""
    last = size % mtu if mtu and size > mtu else size
    padded = (last + 15) & ~15
    return (min(padded, mtu) if mtu else padded) - last


def seal_batch(
    cipher: Cipher, receiver_index: int, counter: int, packets: Sequence[Buffer], mtu: int
) -> list[bytes]:
    """Encrypts packets into transport datagrams: see the module's contract."""
    encrypt, encode_header, encode_nonce = cipher.encrypt, _encode_header, _encode_nonce
    return [
        encode_header(TRANSPORT, receiver_index, number) + encrypt(encode_nonce(number), packet, None)
        for number, packet in enumerate(_padded(packets, mtu), counter)
    ]


def open_batch(cipher: Cipher, datagrams: Sequence[Buffer]) -> tuple[list[int], list[bytes]]:
    """Decrypts transport datagrams: see the module's contract."""
    decrypt, encode_nonce = cipher.decrypt, _encode_nonce
    counters = [counter for (counter,) in map(_decode_counter, datagrams)]
    try:  # as a whole, which for honest datagrams is all there is to do
        return counters, [
            decrypt(encode_nonce(counter), datagram[16:], None)
            for counter, datagram in zip(counters, datagrams, strict=True)
        ]
    except InvalidTag:
        return _open_singly(cipher, counters, datagrams)


def _open_singly(
    cipher: Cipher, counters: Sequence[int], datagrams: Sequence[Buffer]
) -> tuple[list[int], list[bytes]]:
    """Opens a batch of which some do not authenticate, one by one; leaves those out."""
    authentic: list[int] = []
    plaintexts: list[bytes] = []
    for counter, datagram in zip(counters, datagrams, strict=True):
        with suppress(InvalidTag):
            plaintexts.append(cipher.decrypt(_encode_nonce(counter), datagram[16:], None))
            authentic.append(counter)
    return authentic, plaintexts


def _padded(packets: Sequence[Buffer], mtu: int) -> Sequence[Buffer]:
    """The packets with their padding; the list itself where none needs any, as full-size packets do not."""
    sizes = list(map(len, packets))
    zeros = {size: bytes(padding(size, mtu)) for size in set(sizes)}
    if not any(zeros.values()):
        return packets
    return [
        b"".join((packet, zeros[size])) if zeros[size] else packet
        for packet, size in zip(packets, sizes, strict=True)
    ]
