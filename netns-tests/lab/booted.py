"""A Debian host with systemd as its first process.

For what is true only where systemd itself has read the units.

The host is this machine's files under an overlay in memory, in namespaces of its own, so it boots in half a
second, may change any file, and leaves nothing. It has this project at ``CHECKOUT`` as ``scripts/install``
would have left it there, since a service sees neither root's home nor wherever else the tests may lie. One
script runs on it as root; when that ends the host is switched off.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.host import PROJECT

CHECKOUT: Final = "/opt/coderd"
BOOT_TIMEOUT: Final = 20.0
"""Seconds for power on and power off."""

BOOT: Final = r"""
set -eu
mount --make-rprivate /
root=$HOST/root
mkdir -p "$HOST" && mount -t tmpfs host "$HOST" && mkdir "$HOST"/upper "$HOST"/work "$root"
mount -t overlay -o "lowerdir=/,upperdir=$HOST/upper,workdir=$HOST/work" host "$root"
mount -t proc proc "$root"/proc
mount -t sysfs sysfs "$root"/sys
mount -t cgroup2 cgroup2 "$root"/sys/fs/cgroup
mount -t tmpfs -o mode=755 run "$root"/run
mount -t tmpfs -o mode=1777 tmp "$root"/tmp
mount -t tmpfs -o mode=755 dev "$root"/dev
mkdir -p "$root"/dev/pts "$root"/dev/shm "$root"/dev/net
# As the kernel makes it and no udev has seen it. A node of its own: units change its mode.
mknod -m 600 "$root"/dev/net/tun c 10 200
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root"/dev/pts
ln -s pts/ptmx "$root"/dev/ptmx
touch "$root"/dev/console

mkdir -p "$root$CHECKOUT" "$root"/opt/python
mkdir "$HOST"/upper-project "$HOST"/work-project
mount -t overlay -o "lowerdir=$PROJECT,upperdir=$HOST/upper-project,workdir=$HOST/work-project" project "$root$CHECKOUT"
mount --bind "$PYTHON" "$root"/opt/python

mkdir "$root"/given "$root"/proof "$root"/.old
mount --bind "$GIVEN" "$root"/given
mount --bind "$RESULT" "$root"/proof
cd "$root"
pivot_root . .old
umount -l /.old
mount --make-rshared /

# From here on every path is the host's own: no symbolic link of the project leads out of it.
[ -e /proof/script ]
cp -r /given/. /
chmod 755 "$CHECKOUT"
ln -sf "/opt/python/bin/$INTERPRETER" "$CHECKOUT"/.venv/bin/python
ln -sf python "$CHECKOUT"/.venv/bin/python3
sed -i 's|^home = .*|home = /opt/python/bin|' "$CHECKOUT"/.venv/pyvenv.cfg
for file in "$CHECKOUT"/.venv/bin/* "$CHECKOUT"/.venv/lib/python3*/site-packages/*.pth; do
    if [ -f "$file" ] && ! [ -L "$file" ] && grep -qI "$PROJECT" "$file"; then sed -i "s|$PROJECT|$CHECKOUT|g" "$file"; fi
done

rm -rf /etc/systemd/system/*.wants /var/log/journal
echo 5c0de4d05c0de4d05c0de4d05c0de4d0 > /etc/machine-id # with none, systemd would enable what Debian enables
mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\nDefaultEnvironment=LD_LIBRARY_PATH=/opt/python/lib\n' > /etc/systemd/system.conf.d/python.conf
for unit in systemd-udevd systemd-udev-trigger; do ln -s /dev/null "/etc/systemd/system/$unit.service"; done
echo host > /etc/hostname
cat > /etc/systemd/system/proof.target <<END
[Unit]
Requires=basic.target proof.service
END
cat > /etc/systemd/system/proof.service <<'END'
[Unit]
After=basic.target
[Service]
Type=oneshot
TimeoutStartSec=@TIMEOUT@
ExecStart=/bin/sh -euc '. /proof/script'
ExecStopPost=/bin/sh -c 'echo "$EXIT_STATUS" > /proof/status; journalctl --no-pager --output=short-monotonic > /proof/journal'
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=file:/proof/output
StandardError=file:/proof/errors
END
exec env -i container=lab PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=proof.target
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a host."""

    status: int
    """The script's exit status."""
    output: str
    errors: str
    journal: str
    """All that systemd and the services have said."""


def run_booted(directory: Path, script: str, files: Mapping[str, str], *, timeout: float) -> Outcome:
    """Boots a host, runs a shell script on it, and switches it off.

    Args:
        directory: an empty one, for what goes in and comes out.
        script: for ``sh -eu``.
        files: more files of the host, by absolute path.
        timeout: seconds for the script, which is then ended: status 255.

    Raises:
        TimeoutExpired: the host did not come up or go down; it is gone.
    """
    given, result = directory / "given", directory / "result"
    for path, text in files.items():
        target = given / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    given.mkdir(exist_ok=True)
    result.mkdir()
    for name in ("output", "errors", "journal", "status"):
        (result / name).touch()
    (result / "script").write_text(script, encoding="utf-8")
    environment = {"HOST": directory / "host", "GIVEN": given, "RESULT": result, "PROJECT": PROJECT}
    python = {"PYTHON": sys.base_prefix, "INTERPRETER": f"python{sys.version_info[0]}.{sys.version_info[1]}"}
    booted = subprocess.run(
        [
            "unshare",
            *("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"),
            *("sh", "-c"),
            BOOT.replace("@TIMEOUT@", f"{timeout:.0f}"),
        ],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CHECKOUT": CHECKOUT,
            **python,
            **{name: str(value) for name, value in environment.items()},
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout + BOOT_TIMEOUT,
        check=False,
    )
    output, errors, journal, status = (
        (result / name).read_text(encoding="utf-8") for name in ("output", "errors", "journal", "status")
    )
    if not status.strip():
        raise RuntimeError(f"the host did not boot: {booted.stdout}{booted.stderr}\n{journal}")
    return Outcome(int(status) if status.strip().isdigit() else 255, output, errors, journal)
