"""What a server is told about how long it lets in whom it has let in."""

import re
from dataclasses import dataclass
from typing import Final

from coderd.config.sources import Setting, Sources, Value, as_bool, bad_value

DAY: Final = 24 * 3600.0

SESSION_LIFETIME = Setting("session_lifetime", "CODERD_SESSION_LIFETIME", "30d")
MAX_TOKEN_LIFETIME = Setting("max_token_lifetime", "CODERD_MAX_TOKEN_LIFETIME", "365d")
DEVICE_LIFETIME = Setting("device_lifetime", "CODERD_DEVICE_LIFETIME", "off")
REQUIRE_DEVICE_APPROVAL = Setting("require_device_approval", "CODERD_REQUIRE_DEVICE_APPROVAL", "false")
LIFETIME_SETTINGS = (SESSION_LIFETIME, MAX_TOKEN_LIFETIME, DEVICE_LIFETIME, REQUIRE_DEVICE_APPROVAL)

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)?", re.ASCII)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY, None: 1.0}
_LEAST, _MOST = 60.0, 36_500 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class LifetimeOptions:
    """Seconds that what is let in may stay."""

    session: float = 30 * DAY
    """A sign-in."""
    max_token: float = 365 * DAY
    """A token made with a sign-in, at most."""
    device: float | None = None
    """A device, until it signs in again; None = for ever."""
    needs_approval: bool = False
    """Whether a new device waits for an admin."""


def parse_lifetime_options(sources: Sources) -> LifetimeOptions:
    """Raises UserError, naming the setting."""
    device = sources.get(DEVICE_LIFETIME)
    return LifetimeOptions(
        session=_seconds(sources.get(SESSION_LIFETIME)),
        max_token=_seconds(sources.get(MAX_TOKEN_LIFETIME)),
        device=None if device.text.strip().lower() == "off" else _seconds(device),
        needs_approval=as_bool(sources.get(REQUIRE_DEVICE_APPROVAL)),
    )


def _seconds(value: Value) -> float:
    """Seconds out of ``30d``, ``12h``, ``90m`` or a plain number. Raises UserError."""
    match = _DURATION.fullmatch(value.text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match is not None else 0.0
    if not _LEAST <= seconds <= _MOST:
        raise bad_value(value, "it must be a time as in 30d, 12h or 90m, of a minute at least")
    return seconds
