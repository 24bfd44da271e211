"""Running a program on a machine of the laboratory as somebody other than root."""

import shlex
import sys
from pathlib import Path

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[1]

OPEN_DIRECTORY = """
there=$(mktemp -d) && mount --rbind {0} "$there" && mount -t tmpfs -o mode=755 tmpfs {0}
for entry in "$there"/* "$there"/.[!.]*; do
    [ -e "$entry" ] || continue
    here={0}/${{entry##*/}}
    if [ -d "$entry" ]; then mkdir "$here"; else : > "$here"; fi
    mount --rbind "$entry" "$here"
done
"""
"""Puts a directory that anybody may search in the place of one that only root may, with the same in it."""


def as_user(uid: int) -> list[str]:
    """What goes before a command to have it run by a user without any group or right.

    But one: to read and search, for the project and its Python may lie where only root may look.
    """
    may_read = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *may_read, "--"]


def as_service(uid: int) -> list[str]:
    """The same for a program that asks by access(2) what it may read, where that one right does not count.

    It sees directories on the way to the project and its Python that are closed as open ones, in a mount
    namespace of its own.
    """
    opened = "".join(OPEN_DIRECTORY.format(shlex.quote(str(path))) for path in _closed_directories())
    return ["unshare", "--mount", "--", "sh", "-ec", f'{opened}\nexec "$@"', "sh", *as_user(uid)]


def _closed_directories() -> list[Path]:
    """Those on the way that not everybody may search, the outermost first."""
    ends = (ROOT, Path(sys.prefix).resolve(), Path(sys.executable).resolve(), Path(sys.base_prefix).resolve())
    every = {parent for end in ends for parent in end.parents}
    return sorted(path for path in every if not path.stat().st_mode & 0o001)
