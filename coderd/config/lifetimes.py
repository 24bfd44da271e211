"""The settings of ``coderd server`` about how long sign-ins, tokens and devices last."""

import re
from dataclasses import dataclass
from typing import Final

from coderd.config.kinds import SWITCH
from coderd.config.sources import Kind, Setting, Sources, Value, bad_value

DAY: Final = 24 * 3600.0

_LIFETIME = re.compile(r"(\d{1,9})(s|m|h|d)?", re.ASCII)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY, None: 1.0}
_LEAST, _MOST = 60.0, 36_500 * DAY


def _seconds(value: Value) -> float:
    """Parses ``30d``, ``12h``, ``90m`` or a plain number of seconds. Raises UserError."""
    match = _LIFETIME.fullmatch(value.text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match is not None else 0.0
    if not _LEAST <= seconds <= _MOST:
        raise bad_value(value, "it must be a time as in 30d, 12h or 90m, of a minute at least")
    return seconds


def _seconds_or_off(value: Value) -> float | None:
    return None if value.text.strip().lower() == "off" else _seconds(value)


_DURATION = Kind("DURATION", _seconds)

SESSION_LIFETIME = Setting(
    "session_lifetime",
    "CODERD_SESSION_LIFETIME",
    _DURATION,
    "30d",
    "How long a sign-in lasts, whether it is used or not.",
)
MAX_TOKEN_LIFETIME = Setting(
    "max_token_lifetime",
    "CODERD_MAX_TOKEN_LIFETIME",
    _DURATION,
    "365d",
    "The longest lifetime of a token that a user creates.",
)
DEVICE_LIFETIME = Setting(
    "device_lifetime",
    "CODERD_DEVICE_LIFETIME",
    Kind("DURATION|off", _seconds_or_off),
    "off",
    "How long a device stays enrolled before its user must sign in on it again.",
)
REQUIRE_DEVICE_APPROVAL = Setting(
    "require_device_approval",
    "CODERD_REQUIRE_DEVICE_APPROVAL",
    SWITCH,
    "false",
    "New devices wait until an admin approves them.",
)
LIFETIME_SETTINGS = (SESSION_LIFETIME, MAX_TOKEN_LIFETIME, DEVICE_LIFETIME, REQUIRE_DEVICE_APPROVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LifetimeOptions:
    """Seconds that sign-ins, tokens and devices last."""

    session: float = 30 * DAY
    """Lifetime of a sign-in."""
    max_token: float = 365 * DAY
    """Longest lifetime of a token that a user creates."""
    device: float | None = None
    """Lifetime of a device until its user signs in again; None = for ever."""
    needs_approval: bool = False
    """Whether a new device waits for an admin."""


def parse_lifetime_options(sources: Sources) -> LifetimeOptions:
    """Returns the options out of all sources. Raises UserError, naming the setting."""
    return LifetimeOptions(
        session=sources.get(SESSION_LIFETIME),
        max_token=sources.get(MAX_TOKEN_LIFETIME),
        device=sources.get(DEVICE_LIFETIME),
        needs_approval=sources.get(REQUIRE_DEVICE_APPROVAL),
    )
