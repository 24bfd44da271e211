"""Options of a command out of its table of settings.

They have types in ``--help``, and are passed on as the texts that were given.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer
from typer.core import TyperGroup

from coderd.config.sources import Setting, Table

Flags: TypeAlias = Mapping[str, str | None]
"""What was given on the command line, by setting name; None for what was not."""

CONFIG_HELP = "A TOML file with these settings.  [default: {}]"


def takes(settings: Table, file: Path) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command one option for each setting, and ``--config`` last.

    Args:
        settings: the table.
        file: the configuration file that is read where ``--config`` is not given.

    Returns: a decorator of a function with the parameters ``flags`` and ``config``; others stay as they are.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        hints = get_type_hints(command, include_extras=True)
        config = Annotated[Path | None, typer.Option(metavar="PATH", help=CONFIG_HELP.format(file))]
        parameters = [
            parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command).parameters.items()
            if name not in ("flags", "config")
        ]
        parameters += [_parameter(setting.name, option_type(setting)) for setting in settings]
        parameters.append(_parameter("config", config))

        @functools.wraps(command)
        def run(**values: Any) -> int:
            flags = {setting.name: _as_text(values.pop(setting.name)) for setting in settings}
            return command(flags=flags, **values)

        vars(run)["__signature__"] = inspect.Signature(parameters, return_annotation=int)
        run.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
        return run

    return decorate


def option_type(setting: Setting[Any]) -> Any:
    """Returns a setting as the annotation of a typer parameter that is None unless it is given."""
    kind: Any = bool if setting.kind.is_switch else list[str] if setting.kind.is_list else str
    return Annotated[kind | None, option(setting)]


def option(setting: Setting[Any]) -> Any:
    """Returns a setting as what stands in the annotation of a typer parameter beside its type."""
    return typer.Option("/".join(setting.flags), metavar=setting.placeholder or None, help=setting.help_text)


class BareValues(TyperGroup):
    """A group with an option that may stand without a value, which typer's parser does not know."""

    settings: Table = ()

    # typer's name for the class that is passed here is private, and a base of the public one.
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Adds the value that a bare flag stands for, then parses the arguments."""
        for setting in self.settings:
            if setting.bare:
                args = with_bare_value(args, setting.flag, setting.bare)
        return super().parse_args(ctx, args)


def with_bare_value(arguments: list[str], flag: str, default: str) -> list[str]:
    """Returns the arguments with ``flag=default`` wherever ``flag`` stands alone.

    A flag stands alone if it is the last argument or another option follows.
    """
    found: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=False):
        is_bare = argument == flag and following.startswith("-")
        found.append(f"{flag}={default}" if is_bare else argument)
    return found


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _as_text(given: bool | str | list[str] | None) -> str | None:
    """Returns what typer found as a setting's text: switches as true or false, lists with commas."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, list):
        return ",".join(given) or None
    return given
