"""The kinds of settings: what a text means, and the sentence for one that is invalid."""

import re
from pathlib import Path

from coderd.config.sources import Kind, Value, bad_value
from coderd.config.url import parse_server_url
from coderd.model.addresses import AddrPort, parse_addr_port

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_MAX_DIGITS = 18
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?", re.ASCII)


def as_bool(value: Value) -> bool:
    """Parses true, yes, on and 1, or false, no, off and 0, in any case. Raises UserError on anything else."""
    text = value.text.strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise bad_value(value, "it is neither true nor false")


def as_path(value: Value) -> Path:
    """Returns the path, made absolute by the directory in which the program was started."""
    return Path(value.text).absolute()


def as_absolute_path(value: Value) -> Path:
    """Returns the path. Raises UserError on one that depends on where the program was started."""
    path = Path(value.text)
    if not path.is_absolute():
        raise bad_value(value, "it must be an absolute path")
    return path


def as_address(value: Value) -> AddrPort:
    """Parses ``ip:port``, or ``:port`` for every address. Raises UserError on anything else."""
    return parse_address(value, value.text)


def parse_address(value: Value, text: str) -> AddrPort:
    """Parses one ``ip:port`` or ``:port`` of a setting that may hold several.

    Raises UserError naming the setting.
    """
    try:
        return parse_addr_port(f"[::]{text}" if text.startswith(":") else text)
    except ValueError:
        raise bad_value(
            value, "it is not an ip:port pair", "Write it as in 192.0.2.10:3000, [::]:3000 or :3000."
        ) from None


def as_paths(value: Value) -> tuple[Path, ...]:
    """Returns the paths of a text with commas between them."""
    return tuple(Path(part) for part in parts_of(value))


def parts_of(value: Value | None) -> tuple[str, ...]:
    """Splits a text at its commas; parts that are empty are left out."""
    return () if value is None else tuple(filter(None, (part.strip() for part in value.text.split(","))))


def parse_duration(text: str) -> float:
    """Parses ``5s``, ``500ms``, ``1m30s``, ``1h``, ``7d`` or a plain number of seconds.

    Returns: seconds.

    Raises:
        ValueError: on anything else.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration")
    days, hours, minutes, seconds, milliseconds = (float(group or 0) for group in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def as_duration(value: Value) -> float:
    """Returns the seconds of a duration. Raises UserError where it is invalid."""
    try:
        return parse_duration(value.text)
    except ValueError:
        raise bad_value(value, "it is not a duration", "Write it as in 24h, 90m or 7d.") from None


def number(low: int, high: int, why: str = "") -> Kind[int]:
    """Returns the kind of a whole number between two others.

    Args:
        low: the least.
        high: the greatest.
        why: the reason in the error, as in ``it must be …``.
    """

    def parse(value: Value) -> int:
        text = value.text
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        if not is_number or not low <= int(text) <= high:
            raise bad_value(value, why or f"it must be a number from {low} to {high}")
        return int(text)

    return Kind("NUMBER", parse)


def at_most(high: int) -> Kind[int]:
    """Returns the kind of a count: a whole number from 0 up to ``high``."""
    return number(0, high, f"it must be a whole number up to {high}")


TEXT = Kind("TEXT", lambda value: value.text)
SWITCH = Kind("", as_bool, is_switch=True)
PORT = Kind("PORT", number(1, 65535).parse)
DURATION = Kind("DURATION", as_duration)
PATH = Kind("PATH", as_path)
ABSOLUTE_PATH = Kind("PATH", as_absolute_path)
ADDRESS = Kind("IP:PORT", as_address)
SERVER_URL = Kind("URL", lambda value: parse_server_url(value.text))
