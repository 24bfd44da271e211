"""A /dev/net/tun of a test's own in a mount namespace of its own: this machine's, whatever its mode, is never touched."""

import shlex
from collections.abc import Sequence

MAKE = """
mount -t tmpfs -o mode=755 own /mnt
mknod -m {mode} /mnt/tun c 10 200
chgrp {group} /mnt/tun
mount --bind /mnt/tun /dev/net/tun
{then}
exec "$@"
"""


def with_own_tun(argv: Sequence[str], *, mode: str, group: int = 0, then: str = "") -> list[str]:
    """A command, run where the device is its own.

    Args:
        argv: the command.
        mode: the device's, in octal digits.
        group: the device's gid.
        then: a line of shell that root runs there before.
    """
    script = MAKE.format(mode=shlex.quote(mode), group=group, then=then)
    return ["unshare", "--mount", "--net", "sh", "-euc", script, "sh", *argv]
