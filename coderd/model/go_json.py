"""JSON objects as Go's ``encoding/json`` reads them: names match in any case, and absent and null mean zero.

Pure.
"""

import math

from coderd.model.errors import MalformedPacket

_INT64 = 1 << 63


class Fields:
    """An object's fields, each read with the type that it must have.

    Args:
        value: a decoded JSON value.
        path: what it is called in errors.

    Raises:
        MalformedPacket: it is no object; the message begins with the path, here and in each method that
            raises.
    """

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise MalformedPacket(f"{path}: expected an object")
        self.path = path
        self._by_name = {str(name).lower(): item for name, item in value.items()}

    def __contains__(self, name: str) -> bool:
        """Returns whether a field is there at all, be it null."""
        return name.lower() in self._by_name

    def get(self, name: str) -> object:
        """Returns a field as it is, None where it is absent."""
        return self._by_name.get(name.lower())

    def text(self, name: str) -> str:
        """Returns a string. Raises MalformedPacket on another type."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise MalformedPacket(f"{self.path}.{name}: expected a string")
        return value or ""

    def flag(self, name: str) -> bool:
        """Returns a truth value. Raises MalformedPacket on another type."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise MalformedPacket(f"{self.path}.{name}: expected true or false")
        return value or False

    def integer(self, name: str) -> int:
        """Returns a whole number of 64 bits.

        Raises MalformedPacket on another type, and outside that range.
        """
        value = self.get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
            raise MalformedPacket(f"{self.path}.{name}: expected a whole number")
        return value

    def number(self, name: str) -> float:
        """Returns a finite number. Raises MalformedPacket on another type."""
        value = self.get(name)
        return 0.0 if value is None else number(value, f"{self.path}.{name}")


def number(value: object, path: str) -> float:
    """Returns a finite number. Raises MalformedPacket on anything else; the message begins with the path."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise MalformedPacket(f"{path}: expected a number")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
