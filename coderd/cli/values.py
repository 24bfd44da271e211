"""Parsers of the command line's texts, and texts of values for people. Pure."""

import re
from ipaddress import ip_address
from typing import NamedTuple, TypeVar, get_args

from coderd.api.messages import ShareText
from coderd.config.kinds import parse_duration as duration_of
from coderd.model.errors import Exit, UserError
from coderd.model.paths import PathRule
from coderd.model.roles import Scope, UserRole

W = TypeVar("W", bound=str)

_FORWARD = re.compile(
    r"(?:(?P<ip>\[[0-9A-Fa-f:.]+\]|\d+\.\d+\.\d+\.\d+):)?(?P<local>\d{1,5})(?::(?P<remote>\d{1,5}))?",
    re.ASCII,
)


def parse_duration(text: str) -> float:
    """Parses ``5s``, ``500ms``, ``1m30s``, ``1h``, ``7d`` or a plain number into seconds.

    Raises UserError on others.
    """
    try:
        return duration_of(text)
    except ValueError as error:
        raise UserError(str(error), exit_code=Exit.USAGE, hint="Write it as in 5s, 500ms or 1m30s.") from None


class Forward(NamedTuple):
    """A local listener and the workspace's port that it forwards to."""

    hosts: tuple[str, ...]
    """Addresses to listen on; the first one has to work."""
    local: int
    remote: int

    @property
    def listens_at(self) -> str:
        """Returns ``127.0.0.1:8080`` or ``[::1]:8080``."""
        host = self.hosts[0]
        return f"[{host}]:{self.local}" if ":" in host else f"{host}:{self.local}"


LOOPBACKS = ("127.0.0.1", "::1")


def parse_forward(text: str) -> Forward:
    """Parses ``[ip:]LOCAL[:REMOTE]``. Raises UserError on anything else."""
    match = _FORWARD.fullmatch(text)
    if match is None:
        raise _bad_forward(text, "it is not of the form [IP:]LOCAL[:REMOTE]")
    local = int(match["local"])
    remote = int(match["remote"] or local)
    if not (1 <= local <= 65535 and 1 <= remote <= 65535):
        raise _bad_forward(text, "a port lies between 1 and 65535")
    if match["ip"] is None:
        return Forward(LOOPBACKS, local, remote)
    try:
        return Forward((str(ip_address(match["ip"].strip("[]"))),), local, remote)
    except ValueError:
        raise _bad_forward(text, f"{match['ip']} is not an address") from None


def parse_forwards(texts: list[str]) -> list[Forward]:
    """Parses all forwards of a command.

    Raises UserError if there are none, or if two listen on one address.
    """
    if not texts:
        raise UserError(
            "no port to forward is given",
            exit_code=Exit.USAGE,
            hint="Name one, as in: coderctl port-forward dev 8080",
        )
    forwards = [parse_forward(text) for text in texts]
    places = [forward.listens_at for forward in forwards]
    for place in places:
        if places.count(place) > 1:
            raise UserError(f"{place} is given twice", exit_code=Exit.USAGE)
    return forwards


def _bad_forward(text: str, why: str) -> UserError:
    return UserError(
        f"{text!r} cannot be forwarded: {why}",
        exit_code=Exit.USAGE,
        hint="Write it as in 8080, 8080:80 or 127.0.0.1:8080:80.",
    )


def parse_role(text: str) -> UserRole:
    """Parses a user's role. Raises UserError on anything else."""
    return _one_of(text, tuple(UserRole), "role")


def parse_scope(text: str) -> Scope:
    """Parses a session token's scope. Raises UserError on anything else."""
    return _one_of(text, tuple(Scope), "scope")


def parse_path(text: str) -> PathRule:
    """Parses a workspace's path rule. Raises UserError on anything else."""
    return _one_of(text, tuple(PathRule), "path rule")


def parse_share(text: str) -> ShareText:
    """Parses the audience of a web app. Raises UserError on anything else."""
    return _one_of(text, get_args(ShareText), "share")


def _one_of(text: str, words: tuple[W, ...], what: str) -> W:
    for word in words:
        if text == word:
            return word
    raise UserError(
        f"{text!r} is not a {what}", exit_code=Exit.USAGE, hint=f"It is one of: {', '.join(words)}."
    )


def size_text(n_bytes: int) -> str:
    """Returns a number of bytes as in ``308 B`` or ``1.2 MiB``."""
    if n_bytes < 1024:
        return f"{n_bytes} B"
    amount = float(n_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def ago_text(seconds: float) -> str:
    """Returns seconds as in ``just now``, ``12s ago``, ``3m ago``, ``2h ago`` or ``5d ago``."""
    if seconds < 1:
        return "just now"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit} ago"
    return f"{int(seconds)}s ago"


def latency_text(latency_ms: float) -> str:
    """Returns milliseconds as in ``12ms``, or ``<1ms`` below one."""
    return f"{latency_ms:.0f}ms" if latency_ms >= 1 else "<1ms"
