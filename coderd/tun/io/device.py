"""The TUN device: opened by python-pytun, then read and written with whole super-packets.

The kernel hands over up to 64 KiB at a time only to a reader that says so: IFF_VNET_HDR puts a virtio header in front of
each packet, TUNSETOFFLOAD names the super-packets that the reader can cut up. USO needs Linux 6.2; USO4 and USO6 are accepted only
together, and nothing without CSUM. ``readv`` and ``writev`` keep the header apart, so no packet is ever glued to it.

A device belongs to one process: IFF_TUN_EXCL refuses a name that exists, also a persistent interface that nobody has
open, whose settings would be somebody else's.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import pytun
import structlog

from coderd.model import Buffer
from coderd.model.errors import Exit, UserError
from coderd.tun.split import split
from coderd.tun.virtio import HEADER_SIZE, NO_OFFLOAD

MAX_NAME_LENGTH = 15
TUN_MODE_HINT: Final = (
    "Let every user open it, as udev and the units of this project do: `chmod 0666 /dev/net/tun` as root; what may be done"
    " with it, CAP_NET_ADMIN decides."
)
"""What helps where the device's mode keeps a user out (EACCES): the kernel makes it 0600, and who may use it says udev."""

_TUNSETOFFLOAD = 0x400454D0
_CSUM, _TSO4, _TSO6, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
_FLAGS = pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR | pytun.IFF_TUN_EXCL

log = structlog.get_logger()


class Offloads(NamedTuple):
    """Super-packets that the kernel exchanges with us: TCP (``tso``), UDP (``uso``)."""

    tso: bool
    uso: bool

    @property
    def bits(self) -> int:
        """The argument of TUNSETOFFLOAD."""
        tso = _CSUM | _TSO4 | _TSO6 if self.tso else 0
        return tso | (_CSUM | _USO4 | _USO6 if self.uso else 0)

    @classmethod
    def of(cls, bits: int) -> "Offloads":
        """What an argument of TUNSETOFFLOAD asks for."""
        return cls(tso=bool(bits & _TSO6), uso=bool(bits & _USO6))


ALL_OFFLOADS = Offloads(tso=True, uso=True)


class OpenTun(Protocol):
    """Who holds the descriptor."""

    @property
    def name(self) -> str:
        """The interface's name."""

    def fileno(self) -> int:
        """The descriptor."""

    def close(self) -> None:
        """Gives it up."""


class _Adopted:
    """A descriptor that another process opened."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = name

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


class TunDevice:
    """One open TUN interface, non-blocking; it disappears when closed.

    Wait with ``trio.lowlevel.wait_readable(device.fileno())``, then read until ``BlockingIOError``.

    Attributes:
        name: the interface's name, a pattern such as ``coder%d`` resolved.
        offloads: what the kernel agreed to.
    """

    def __init__(self, tun: OpenTun, offloads: Offloads) -> None:
        self._tun: OpenTun | None = tun
        self._fd: Final[int] = tun.fileno()
        self._has_refused = False
        self.name: Final[str] = tun.name
        self.offloads: Final = offloads

    @classmethod
    def open(cls, name: str, *, offloads: Offloads = ALL_OFFLOADS) -> "TunDevice":
        """Creates the interface.

        Args:
            name: at most 15 bytes; ``%d`` in it becomes the first free number.
            offloads: what to ask for; the device has what the kernel grants of it.

        Raises: UserError if the machine, our rights or the name do not allow it.
        """
        _check_name(name)
        try:
            tun = pytun.TunTapDevice(name=name, flags=_FLAGS)
        except pytun.Error as error:
            raise _explain(error, name) from error
        os.set_blocking(tun.fileno(), False)
        os.set_inheritable(tun.fileno(), False)
        return cls(tun, _negotiate(tun.fileno(), offloads))

    @classmethod
    def adopt(cls, descriptor: int, name: str, offloads: Offloads) -> "TunDevice":
        """The device of another network namespace, opened there with IFF_VNET_HDR and handed over; ours to close.

        Args:
            descriptor: of the opened device.
            name: what it is called there.
            offloads: what its kernel agreed to.
        """
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)
        return cls(_Adopted(descriptor, name), offloads)

    def fileno(self) -> int:
        """The file descriptor, -1 when closed."""
        return self._fd if self._tun is not None else -1

    def read_into(self, header: bytearray, buffer: bytearray | memoryview) -> int:
        """Reads one packet or super-packet.

        Args:
            header: 10 bytes, overwritten with the virtio header.
            buffer: at least 65535 bytes; what does not fit is lost.

        Returns: the packet's length in ``buffer``.
        Raises: BlockingIOError when there is nothing; OSError EBADFD when the interface has been deleted.
        """
        return os.readv(self._fd, (header, buffer)) - HEADER_SIZE

    def write(self, iovec: Sequence[Buffer]) -> None:
        """Hands one item of ``coalesce`` to the kernel.

        Some kernels of 2024 (6.11-rc, 6.6.44 and relatives) refuse super-packets whose last segment is short; so what is refused
        is written again as the packets it was made of.

        Raises: OSError: EIO while the interface is down, EINVAL for what is no packet, EBADFD when it has been deleted.
        """
        try:
            os.writev(self._fd, iovec)
        except OSError as error:
            if error.errno != errno.EINVAL or iovec[0] == NO_OFFLOAD:
                raise
            self._write_singly(iovec)

    def close(self) -> None:
        """Closes the device, which removes the interface, its addresses and its routes. May be called twice."""
        if self._tun is not None:
            self._tun.close()
            self._tun = None

    def __enter__(self) -> "TunDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_singly(self, iovec: Sequence[Buffer]) -> None:
        if not self._has_refused:
            self._has_refused = True
            log.warning("the kernel refuses a super-packet, writing its parts singly", interface=self.name)
        for packet in split(iovec[0], b"".join(iovec[1:])):
            os.writev(self._fd, (NO_OFFLOAD, packet))


def _negotiate(fd: int, wanted: Offloads) -> Offloads:
    """Asks for less and less; a kernel that knows none of it still gives whole packets behind zeroed headers."""
    for offloads in dict.fromkeys((wanted, wanted._replace(uso=False), Offloads(tso=False, uso=False))):
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, offloads.bits)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            return offloads
    return Offloads(tso=False, uso=False)


def _check_name(name: str) -> None:
    is_usable = (
        0 < len(name.encode()) <= MAX_NAME_LENGTH
        and name not in (".", "..")
        and not any(letter in "/:" or letter.isspace() or letter == "\0" for letter in name)
    )
    if not is_usable:
        raise _bad_name(name)


def _bad_name(name: str) -> UserError:
    return UserError(
        f"{name!r} cannot be the name of a network interface",
        exit_code=Exit.USAGE,
        hint=f"Choose up to {MAX_NAME_LENGTH} letters, digits, dots and dashes, such as coder0.",
        code="bad_interface_name",
    )


def _explain(error: OSError, name: str) -> UserError:
    """What the errors of opening /dev/net/tun and of TUNSETIFF mean."""
    if error.errno == errno.EINVAL:
        return _bad_name(name)
    if error.errno == errno.EBUSY:
        return UserError(
            f"there is already a network interface named {name}",
            hint="Stop the daemon that owns it, delete it with `ip link delete`, or choose another name.",
            code="interface_exists",
        )
    if error.errno == errno.EACCES:
        return UserError(
            f"creating the network interface {name} is not permitted: this user may not open /dev/net/tun",
            hint=TUN_MODE_HINT,
            code="not_permitted",
        )
    if error.errno == errno.EPERM:
        return UserError(
            f"creating the network interface {name} is not permitted: that needs CAP_NET_ADMIN and the device /dev/net/tun",
            hint="Run as root, or start the daemon by its systemd unit, which grants the capability.",
            code="not_permitted",
        )
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return UserError(
            "this machine has no /dev/net/tun, so no network interface can be created",
            hint="Load the module with `modprobe tun`; in a container, pass the device in with `--device /dev/net/tun`.",
            code="no_tun",
        )
    return UserError(
        f"the network interface {name} cannot be created: {error.strerror or error}", code="no_tun"
    )
