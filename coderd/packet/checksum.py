"""The Internet checksum (RFC 1071): of one buffer, and of many at once.

A *sum* here is the ones-complement sum of big-endian 16-bit words, an odd last byte padded with zero on its
right. Its arithmetic is that of integers modulo 65535, of which the code uses three facts:

- 2^16 = 1 there, so a buffer of any even length, read as one big-endian integer, is congruent to its sum. A
  32-bit field is congruent to the sum of its halves, and sums of parts add up where every part but the last
  has an even length.
- 2^8 is the swap of the two bytes of a word, so a sum taken over little-endian words, times 256, is the
  big-endian one.
- A congruence class has one exception: 0 and 65535 are congruent but not the same word. The folded sum is 0
  only where every byte is zero; a pseudo-header is never all zero, so for TCP and UDP the folded sum lies in
  1..65535 and the checksum, its complement, is exactly ``-total % 65535``. UDP then sends 0 as 65535, as 0
  means "none".

Why numpy: in plain Python the sum costs a few microseconds for each full-size segment. One ``add.reduce`` or
``add.reduceat`` over 32-bit words, widened to 64 bits so that no carry is lost, sums all segments of a 64 KiB
super-packet in the time that two or three of them take in plain Python.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from coderd.model import Buffer

MODULUS = 0xFFFF

_LITTLE_ENDIAN_WORDS = np.dtype("<u4")
_WORD = 4
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
"""Bytes that fill up the last word of 4 bytes, by a buffer's length modulo 4."""


def ones_sum(data: Buffer) -> int:
    """Returns a buffer's folded ones-complement sum, 0..65535 (RFC 1071); 0 only where all bytes are zero."""
    value = int.from_bytes(data, "big") << (8 if len(data) & 1 else 0)
    return value % MODULUS or (MODULUS if value else 0)


def checksum(data: Buffer, initial: int = 0) -> int:
    """Returns the value of the checksum field for a buffer in which that field is zero (RFC 1071).

    Args:
        data: header and payload.
        initial: the sum of bytes outside ``data``, such as the pseudo-header; need not be folded.
    """
    total = ones_sum(data) + initial
    return MODULUS - (total % MODULUS or (MODULUS if total else 0))


def pseudo_header_sum(addresses: Buffer, protocol: int, length: int) -> int:
    """Returns the folded sum of the pseudo-header of TCP and UDP (RFC 9293 §3.1, RFC 8200 §8.1).

    Args:
        addresses: source and destination, one behind the other as in both IP headers: 8 or 32 bytes.
        protocol: TCP or UDP.
        length: bytes of transport header and payload.
    """
    return fold(ones_sum(addresses) + protocol + length)


def fold(total: int) -> int:
    """Folds a sum of sums into a 16-bit word, 0..65535; 0 only of 0."""
    return total % MODULUS or (MODULUS if total else 0)


def segment_sums(data: Buffer, offset: int, size: int) -> list[int]:
    """Sums of ``data[offset:]`` cut into pieces of ``size`` bytes, of which the last may be shorter.

    Returns: one number 0..65534 per piece, congruent to its sum (0 may stand for 65535).
    """
    n_whole, rest = divmod(len(data) - offset, size)
    sums = _row_sums(data, offset, size, n_whole) if n_whole else []
    if rest:
        sums.append(ones_sum(data[-rest:]) % MODULUS)
    return sums


def split_sums(packets: Sequence[Buffer], at: int) -> tuple[list[int], list[int]]:
    """Returns the sums of the packets' first ``at`` bytes, and the sums of their other bytes.

    Args:
        packets: each longer than ``at`` bytes.
        at: a multiple of 4.

    Returns: two lists, each with one number 0..65534 per packet, congruent to the sum (0 may stand for
        65535).
    """
    sizes = list(map(len, packets))
    if sizes[0] % _WORD == 0 and sizes.count(sizes[0]) == len(sizes):
        rows = np.frombuffer(b"".join(packets), _LITTLE_ENDIAN_WORDS).reshape(len(sizes), -1)
        return _reduce(rows[:, : at // _WORD]), _reduce(rows[:, at // _WORD :])
    if any(size % _WORD for size in sizes):
        packets = [part for packet in packets for part in (packet, _PADDING[len(packet) % _WORD])]
    words = np.frombuffer(b"".join(packets), _LITTLE_ENDIAN_WORDS)
    starts = list(accumulate(((size + _WORD - 1) // _WORD for size in sizes[:-1]), initial=0))
    bounds = np.empty((len(sizes), 2), np.intp)
    bounds[:, 0] = starts
    bounds[:, 1] = bounds[:, 0] + at // _WORD
    sums = np.add.reduceat(words, bounds.ravel(), dtype=np.uint64) * 256 % MODULUS
    heads: list[int] = sums[0::2].tolist()
    tails: list[int] = sums[1::2].tolist()
    return heads, tails


def _row_sums(data: Buffer, offset: int, size: int, n_rows: int) -> list[int]:
    """Sums pieces of one size, the rows of a matrix; a copy pads rows to a multiple of 4 bytes with zeros."""
    if size % _WORD == 0:
        words = np.frombuffer(data, _LITTLE_ENDIAN_WORDS, n_rows * size // _WORD, offset)
        rows = words.reshape(n_rows, size // _WORD)
    else:
        padded = np.zeros((n_rows, size + _WORD - size % _WORD), np.uint8)
        padded[:, :size] = np.frombuffer(data, np.uint8, n_rows * size, offset).reshape(n_rows, size)
        rows = padded.view(_LITTLE_ENDIAN_WORDS)
    return _reduce(rows)


def _reduce(rows: npt.NDArray[np.uint32]) -> list[int]:
    sums: list[int] = (np.add.reduce(rows, axis=1, dtype=np.uint64) * 256 % MODULUS).tolist()
    return sums
