"""Frames that a relay sends, made whole for a client under test."""

from collections.abc import Iterable

from coderd.derp.frame import FrameType, encode_frame
from coderd.model.keys import NodePublic


def encode_recv_packets(sender: NodePublic, packets: Iterable[bytes]) -> bytes:
    """Returns one RecvPacket frame per packet."""
    return b"".join(encode_frame(FrameType.RECV_PACKET, sender + packet) for packet in packets)
