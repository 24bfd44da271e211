"""One setting out of three places: flag > environment > file. Each value remembers where it came from, for its errors."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from coderd.model.errors import Exit, UserError

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Setting(NamedTuple):
    """A setting's names: ``name`` in the file, ``--name`` with hyphens as a flag, and one in the environment."""

    name: str
    environment: str
    default: str | None = None

    @property
    def flag(self) -> str:
        """The flag's name."""
        return "--" + self.name.replace("_", "-")


class Value(NamedTuple):
    """A setting's text and where it was found."""

    text: str
    origin: str


class Sources(NamedTuple):
    """What was given where. Flags that were not given are None; an empty variable counts as unset."""

    flags: Mapping[str, str | None]
    environment: Mapping[str, str]
    file: Mapping[str, str]

    def find(self, setting: Setting) -> Value | None:
        """The value that wins, None if nobody gave one and there is no default."""
        if (flag := self.flags.get(setting.name)) is not None:
            return Value(flag, setting.flag)
        if variable := self.environment.get(setting.environment):
            return Value(variable, setting.environment)
        if (entry := self.file.get(setting.name)) is not None:
            return Value(entry, f"{setting.name} in the configuration file")
        return None if setting.default is None else Value(setting.default, "the default")

    def get(self, setting: Setting) -> Value:
        """The value of a setting that has a default."""
        value = self.find(setting)
        assert value is not None, f"{setting.name} has no default"
        return value


def parse_file(text: str, settings: tuple[Setting, ...], path: str) -> dict[str, str]:
    """Reads a TOML file of texts, booleans, whole numbers and lists of texts, each as the text that a flag would have.

    Raises:
        UserError: bad TOML, an unknown name or a value of another type, naming it.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad_file(path, f"it is not TOML ({error})") from None
    known = {setting.name for setting in settings}
    for name in table:
        if name not in known:
            raise _bad_file(path, f"it has no setting named {name}", f"It has: {', '.join(sorted(known))}.")
    return {name: _as_text(name, value, path) for name, value in table.items()}


def as_bool(value: Value) -> bool:
    """The truth of a setting: true, yes, on and 1, or false, no, off and 0, in any case. Raises UserError on others."""
    text = value.text.strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise bad_value(value, "it is neither true nor false")


def absolute_path(value: Value) -> Path:
    """The path that a setting names. Raises UserError on one that depends on where the program was started."""
    path = Path(value.text)
    if not path.is_absolute():
        raise bad_value(value, "it must be an absolute path")
    return path


def bad_value(value: Value, why: str, hint: str = "") -> UserError:
    """The error for a value that cannot be used."""
    return UserError(
        f"the value {value.text!r} of {value.origin} cannot be used: {why}",
        exit_code=Exit.USAGE,
        hint=hint,
        code="bad_config",
    )


def _as_text(name: str, value: object, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if not isinstance(value, str):
        raise _bad_file(
            path, f"{name} must be a text in quotes, true or false, a whole number, or a list of texts"
        )
    return value


def _bad_file(path: str, why: str, hint: str = "") -> UserError:
    return UserError(
        f"the configuration file {path} cannot be used: {why}",
        exit_code=Exit.USAGE,
        hint=hint,
        code="bad_config",
    )
