"""Settings, and where their values come from: flag > environment > file.

A ``Setting`` is one line of a command's table: its names, its kind, its default and its help. The typer
options, the configuration file, ``docs/options.md`` and the man pages are made from these tables. A ``Value``
remembers where it came from, so that its error can say so.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from coderd.model.errors import Exit, UserError

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Value(NamedTuple):
    """A setting's text and where it was found."""

    text: str
    origin: str


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """What a setting's text means.

    Args:
        metavar: what ``--help`` shows in the place of a value: ``NUMBER``, ``IP:PORT``.
        parse: the text as a value. Raises UserError, naming the setting's origin.
        is_switch: whether the flag takes no value.
        is_list: whether the flag may be given several times; the text has commas between the values.
    """

    metavar: str
    parse: Callable[[Value], T_co]
    is_switch: bool = False
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Setting(Generic[T_co]):
    """One setting of a command.

    Args:
        name: its key in the file; as a flag it is ``--name`` with hyphens.
        environment: its environment variable.
        kind: what its text means.
        default: the text that stands where none is given; None for no value at all.
        help: one or two sentences for ``--help``, ``docs/options.md`` and the man page.
        metavar: what ``--help`` shows instead of the kind's own.
        shown_default: the default in words, where it is worked out or the text says too little.
        has_negation: whether a switch has a ``--no-name`` beside it.
        bare: the text that the flag stands for when it is given without a value.
    """

    name: str
    environment: str
    kind: Kind[T_co]
    default: str | None = None
    help: str = ""
    metavar: str = ""
    shown_default: str = ""
    has_negation: bool = False
    bare: str = ""

    @property
    def flag(self) -> str:
        """Returns the flag's name, hyphens before it."""
        return "--" + self.name.replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """Returns all names of the flag: a switch may have a negation."""
        return (self.flag, "--no-" + self.flag[2:]) if self.has_negation else (self.flag,)

    @property
    def placeholder(self) -> str:
        """Returns what stands for the value in ``--help``; empty for a switch."""
        return "" if self.kind.is_switch else self.metavar or self.kind.metavar

    @property
    def default_text(self) -> str:
        """Returns the default as people read it; empty where there is none."""
        if self.shown_default or self.default is None:
            return self.shown_default
        if self.kind.is_switch:
            return {"true": "yes", "false": "no"}[self.default]
        return self.default

    @property
    def help_text(self) -> str:
        """Returns the help with the environment variable and the default behind it."""
        default = f"; default: {self.default_text}" if self.default_text else ""
        return f"{self.help}  [env var: {self.environment}{default}]"


Table: TypeAlias = tuple[Setting[Any], ...]
"""A command's settings, in the order in which ``--help`` shows them."""


class Sources(NamedTuple):
    """What was given where. Flags that were not given are None; an empty variable counts as unset."""

    flags: Mapping[str, str | None]
    environment: Mapping[str, str]
    file: Mapping[str, str]

    def find(self, setting: Setting[object]) -> Value | None:
        """Returns the text that wins and its origin; None where none was given and there is no default."""
        if (flag := self.flags.get(setting.name)) is not None:
            return Value(flag, setting.flag)
        if variable := self.environment.get(setting.environment):
            return Value(variable, setting.environment)
        if (entry := self.file.get(setting.name)) is not None:
            return Value(entry, f"{setting.name} in the configuration file")
        return None if setting.default is None else Value(setting.default, "the default")

    def get(self, setting: Setting[T]) -> T:
        """Returns the value of a setting that has a default. Raises UserError where its text is invalid."""
        value = self.find(setting)
        assert value is not None, f"{setting.name} has no default"
        return setting.kind.parse(value)

    def given(self, setting: Setting[T]) -> T | None:
        """Returns a setting's value, or None where there is none.

        Raises UserError where its text is invalid.
        """
        value = self.find(setting)
        return None if value is None else setting.kind.parse(value)


def parse_file(text: str, settings: Sequence[Setting[object]], path: str) -> dict[str, str]:
    """Reads a TOML file of texts, booleans, whole numbers and lists of texts, each as a flag's text.

    Raises:
        UserError: invalid TOML, an unknown name or a value of another type, naming it.
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


def bad_value(value: Value, why: str, hint: str = "") -> UserError:
    """Returns the error for an invalid value: it names the text, its origin and the reason."""
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
