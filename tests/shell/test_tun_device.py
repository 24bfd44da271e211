"""TunDevice without a kernel's help: errors explained, the fallback ladder, refused super-packets. The rest is in netns-tests."""

import errno
import fcntl
import os
from collections.abc import Sequence

import pytest
import pytun

from coderd.model.errors import Exit, UserError
from coderd.tun import coalesce
from coderd.tun.io.device import Offloads, TunDevice
from coderd.tun.virtio import NO_OFFLOAD
from tests.headers import parse_ip

BOTH, TSO, NONE = 0x67, 0x07, 0x00

SEGMENTS = [
    bytes.fromhex(
        "4500002e000a4000400626be0a0000010a00000203e800500000006400000007501001f628c7000078797a78797a"
    ),
    bytes.fromhex(
        "4500002e000b4000400626bd0a0000010a00000203e800500000006a00000007501001f628c1000078797a78797a"
    ),
    bytes.fromhex("4500002b000c4000400626bf0a0000010a00000203e800500000007000000007501801f6cbb30000656e64"),
]


class FakeTun:
    """Stands for pytun's device; its descriptor is a real one, so that flags can be set."""

    def __init__(self, name: str, flags: int) -> None:
        self.name, self.flags = name.replace("%d", "0"), flags
        self._read_end, self._write_end = os.pipe()
        self.is_open = True

    def fileno(self) -> int:
        return self._write_end

    def close(self) -> None:
        assert self.is_open
        self.is_open = False
        os.close(self._read_end)
        os.close(self._write_end)


class Kernel:
    """Answers TUNSETOFFLOAD and takes writes as one of some version would."""

    def __init__(self, *accepted: int) -> None:
        self.accepted = accepted
        self.asked: list[int] = []
        self.written: list[bytes] = []
        self.takes_super_packets = True

    def ioctl(self, fd: int, request: int, bits: int) -> int:
        assert request == 0x400454D0
        self.asked.append(bits)
        if bits not in self.accepted:
            raise OSError(errno.EINVAL, "Invalid argument")
        return 0

    def writev(self, fd: int, iovec: Sequence[bytes]) -> int:
        if iovec[0] != NO_OFFLOAD and not self.takes_super_packets:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.written.append(b"".join(iovec))
        return len(self.written[-1])


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(BOTH, TSO, NONE)
    monkeypatch.setattr(pytun, "TunTapDevice", FakeTun)
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    monkeypatch.setattr(os, "writev", kernel.writev)
    return kernel


@pytest.mark.parametrize(
    ("accepted", "asked", "granted"),
    [
        ([BOTH], [BOTH], Offloads(tso=True, uso=True)),
        ([TSO], [BOTH, TSO], Offloads(tso=True, uso=False)),
        ([NONE], [BOTH, TSO, NONE], Offloads(tso=False, uso=False)),
        ([], [BOTH, TSO, NONE], Offloads(tso=False, uso=False)),
    ],
)
def test_an_older_kernel_is_asked_for_less(
    kernel: Kernel, accepted: list[int], asked: list[int], granted: Offloads
) -> None:
    kernel.accepted = tuple(accepted)
    with TunDevice.open("coder0") as device:
        assert kernel.asked == asked
        assert device.offloads == granted


def test_offloads_that_are_not_wanted_are_not_asked_for(kernel: Kernel) -> None:
    with TunDevice.open("coder0", offloads=Offloads(tso=True, uso=False)) as device:
        assert kernel.asked == [TSO]
        assert not device.offloads.uso


def test_the_descriptor_neither_blocks_nor_is_inherited(kernel: Kernel) -> None:
    with TunDevice.open("coder%d") as device:
        assert device.name == "coder0"
        assert not os.get_blocking(device.fileno())
        assert not os.get_inheritable(device.fileno())


def test_the_device_is_exclusive_and_has_virtio_headers(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: list[int] = []

    def open_tun(name: str, **options: int) -> FakeTun:
        flags.append(options["flags"])
        return FakeTun(name, 0)

    monkeypatch.setattr(pytun, "TunTapDevice", open_tun)
    TunDevice.open("coder0").close()
    assert flags == [0x0001 | 0x1000 | 0x4000 | 0x8000]


def test_closing_twice_closes_once(kernel: Kernel) -> None:
    device = TunDevice.open("coder0")
    device.close()
    device.close()
    assert device.fileno() == -1


def test_super_packets_are_written_whole(kernel: Kernel) -> None:
    with TunDevice.open("coder0") as device:
        for iovec in coalesce(SEGMENTS, uso=True):
            device.write(iovec)
    assert len(kernel.written) == 1


def test_a_refused_super_packet_is_written_as_its_packets(kernel: Kernel) -> None:
    kernel.takes_super_packets = False
    with TunDevice.open("coder0") as device:
        for iovec in coalesce(SEGMENTS, uso=True):
            device.write(iovec)
    assert kernel.written == [NO_OFFLOAD + segment for segment in SEGMENTS]
    assert all(parse_ip(packet[10:]) for packet in kernel.written)


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADFD, errno.EINVAL, errno.EAGAIN])
def test_other_write_errors_are_told_by_number(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, iovec: Sequence[bytes]) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "writev", refuse)
    with TunDevice.open("coder0") as device:
        with pytest.raises(OSError, match=r"\[Errno") as raised:
            device.write([NO_OFFLOAD, SEGMENTS[0]])
        assert raised.value.errno == number


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.EBUSY, "interface_exists", "already a network interface named coder0"),
        (errno.EPERM, "not_permitted", "CAP_NET_ADMIN"),
        (errno.EACCES, "not_permitted", "/dev/net/tun"),
        (errno.ENOENT, "no_tun", "no /dev/net/tun"),
        (errno.ENODEV, "no_tun", "no /dev/net/tun"),
        (errno.EINVAL, "bad_interface_name", "'coder0'"),
        (errno.ENOMEM, "no_tun", "Cannot allocate memory"),
    ],
)
def test_errors_of_opening_are_explained(
    monkeypatch: pytest.MonkeyPatch, number: int, code: str, words: str
) -> None:
    def refuse(name: str, flags: int) -> None:
        raise pytun.Error(number, os.strerror(number))

    monkeypatch.setattr(pytun, "TunTapDevice", refuse)
    with pytest.raises(UserError) as raised:
        TunDevice.open("coder0")
    assert raised.value.code == code
    assert words in raised.value.message
    assert not raised.value.message.endswith(".")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:b", "sixteen_letters_", "ä" * 8, "a\0b"])
def test_bad_names_are_refused_before_the_kernel_sees_them(name: str) -> None:
    with pytest.raises(UserError) as raised:
        TunDevice.open(name)
    assert raised.value.exit_code is Exit.USAGE
