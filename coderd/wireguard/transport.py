"""Encryption and decryption of transport data: two functions of bytes and integers. WireGuard paper §5.4.6.

Their contract, which an implementation in another language must keep to the byte:

``seal_batch(cipher, receiver_index, counter, packets, mtu) -> list[bytes]``
    One datagram per packet, in order, under the counters ``counter, counter + 1, ...``. A packet is padded
    with zeros to a multiple of 16 but never past ``mtu`` (0: no limit). An empty packet becomes a keepalive
    of 32 bytes. The caller ensures that no counter is used twice or reaches the limit.

``open_batch(cipher, datagrams) -> tuple[list[int], list[bytes]]``
    The counters and plaintexts, padding included, of the datagrams that authenticate, in order; the others
    are left out. Every datagram has at least 32 bytes, and the caller has checked its type and index. No
    state is kept: the caller checks counters for replay afterwards, so a forged packet cannot use up a
    counter.

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
    """Returns how many zero bytes pad a packet of ``size`` bytes to a multiple of 16, within ``mtu``."""
    last = size % mtu if mtu and size > mtu else size
    padded = (last + 15) & ~15
    return (min(padded, mtu) if mtu else padded) - last


def seal_batch(
    cipher: Cipher, receiver_index: int, counter: int, packets: Sequence[Buffer], mtu: int
) -> list[bytes]:
    """Encrypts packets, padded within ``mtu``, into a datagram each, with counters from ``counter`` on."""
    encrypt, encode_header, encode_nonce = cipher.encrypt, _encode_header, _encode_nonce
    return [
        encode_header(TRANSPORT, receiver_index, number) + encrypt(encode_nonce(number), packet, None)
        for number, packet in enumerate(_padded(packets, mtu), counter)
    ]


def open_batch(cipher: Cipher, datagrams: Sequence[Buffer]) -> tuple[list[int], list[bytes]]:
    """Decrypts transport datagrams; returns counters and plaintexts of the authentic ones, in order.

    Padding is not removed, and replay is not checked.
    """
    decrypt, encode_nonce = cipher.decrypt, _encode_nonce
    counters = [counter for (counter,) in map(_decode_counter, datagrams)]
    try:  # as a whole, which is enough if all authenticate
        return counters, [
            decrypt(encode_nonce(counter), datagram[16:], None)
            for counter, datagram in zip(counters, datagrams, strict=True)
        ]
    except InvalidTag:
        return _open_singly(cipher, counters, datagrams)


def _open_singly(
    cipher: Cipher, counters: Sequence[int], datagrams: Sequence[Buffer]
) -> tuple[list[int], list[bytes]]:
    """Decrypts datagrams one by one, and leaves out the ones that do not authenticate."""
    authentic: list[int] = []
    plaintexts: list[bytes] = []
    for counter, datagram in zip(counters, datagrams, strict=True):
        with suppress(InvalidTag):
            plaintexts.append(cipher.decrypt(_encode_nonce(counter), datagram[16:], None))
            authentic.append(counter)
    return authentic, plaintexts


def _padded(packets: Sequence[Buffer], mtu: int) -> Sequence[Buffer]:
    """Returns packets with their padding; the given sequence itself where no packet needs any."""
    sizes = list(map(len, packets))
    zeros = {size: bytes(padding(size, mtu)) for size in set(sizes)}
    if not any(zeros.values()):
        return packets
    return [
        b"".join((packet, zeros[size])) if zeros[size] else packet
        for packet, size in zip(packets, sizes, strict=True)
    ]
