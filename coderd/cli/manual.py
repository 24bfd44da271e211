"""``docs/options.md`` and the man pages, made from the commands themselves.

``python -m coderd.cli.manual docs`` writes both.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

import coderd
from coderd.cli import coderctl, wireguard
from coderd.cli import coderd as coderd_program
from coderd.config.environment import OTHERS
from coderd.config.node import DEFAULT_FILE as NODE_FILE
from coderd.config.node import NODE_SETTINGS
from coderd.config.relay import DEFAULT_FILE as RELAY_FILE
from coderd.config.relay import RELAY_SETTINGS
from coderd.config.server import DEFAULT_FILE as SERVER_FILE
from coderd.config.server import SERVER_SETTINGS
from coderd.config.sources import Setting, Table

TABLES: dict[str, tuple[Table, Path]] = {
    "coderd run": (NODE_SETTINGS, NODE_FILE),
    "coderd server": (SERVER_SETTINGS, SERVER_FILE),
    "coderd derp": (RELAY_SETTINGS, RELAY_FILE),
}
"""The commands that have a table of settings and a configuration file."""

HEAD = """\
# Options

Every command with its options. Generated from the commands by `python -m coderd.cli.manual docs`; a test holds it.

`coderd run`, `coderd server` and `coderd derp` read each setting from three places: the flag goes before the environment
variable, which goes before the configuration file. The file is TOML; a setting's key is its flag without the leading
hyphens and with underscores: `--listen-port 41641` is `listen_port = 41641`. An empty variable counts as unset. A
variable in `CODERD_` that no command reads, or one in `CODER_` that is one letter away from one of these, is warned of
once at the start; its value is not shown.
"""


class OptionText(NamedTuple):
    """One option or argument as a reader sees it."""

    names: str
    help: str
    environment: str = ""
    default: str = ""


class CommandText(NamedTuple):
    """One command as a reader sees it, from the program's name on."""

    name: str
    usage: str
    help: str
    options: tuple[OptionText, ...]


def programs() -> dict[str, typer.Typer]:
    """Returns the app of each program, by its name."""
    return {
        "coderd": coderd_program.build_app(),
        "coderctl": coderctl.build_app(),
        "coderd-wireguard": wireguard.build_app(),
    }


def commands(program: str, app: typer.Typer) -> Iterator[CommandText]:
    """Yields a program's commands in the order of its help, each before those behind it.

    Hidden ones are left out.
    """
    yield from _walk(typer.main.get_command(app), None, program)


def options_page() -> str:
    """Returns the text of ``docs/options.md``."""
    parts = [HEAD]
    for program, app in programs().items():
        if program == "coderd-wireguard":
            continue  # is coderd wireguard
        parts += [_section(command) for command in commands(program, app) if command.options]
    rows = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in OTHERS.items()]
    parts.append(
        "\n".join(["## Other environment variables\n", "| Variable | Meaning |", "| --- | --- |", *rows, ""])
    )
    return "\n".join(parts)


def man_pages() -> dict[str, str]:
    """Returns the text of each man page by its file's name, as in ``coderd.1``."""
    return {f"{program}.1": _man_page(program, app) for program, app in programs().items()}


def _walk(command: Any, parent: Any, name: str) -> Iterator[CommandText]:
    context = type(command).context_class(command, info_name=name.split()[-1], parent=parent)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    settings, _ = TABLES.get(name, ((), None))
    by_flag = {setting.flag: setting for setting in settings}
    found = [
        _option(parameter, by_flag) for parameter in command.params if not getattr(parameter, "hidden", False)
    ]
    yield CommandText(name, usage, _plain(command.help or ""), tuple(found))
    for child_name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _walk(child, context, f"{name} {child_name}")


def _plain(text: str) -> str:
    return text.replace("\b\n", "").strip()


def _option(parameter: Any, settings: dict[str, Setting[Any]]) -> OptionText:
    metavar = _metavar(parameter)
    if parameter.param_type_name == "argument":
        return OptionText(metavar, _help(parameter))
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    shown = f"{names} {metavar}".rstrip()
    if (setting := settings.get(parameter.opts[0])) is not None:
        return OptionText(shown, setting.help, setting.environment, setting.default_text)
    default = parameter.default if isinstance(parameter.default, (str, int, float, Path)) else None
    is_shown = default is not None and not isinstance(default, bool) and default != ""
    text, _, stated = _help(parameter).partition("  [default: ")
    return OptionText(
        shown, text, _variable(parameter), str(default) if is_shown else stated.removesuffix("]")
    )


def _metavar(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    if parameter.metavar:
        return str(parameter.metavar)
    return parameter.name.upper() if parameter.param_type_name == "argument" else "NUMBER"


def _help(parameter: Any) -> str:
    return str(getattr(parameter, "help", None) or "")


def _variable(parameter: Any) -> str:
    return parameter.envvar if isinstance(parameter.envvar, str) else ""


def _section(command: CommandText) -> str:
    """Returns a command as Markdown: its usage, its first sentence and a table of its options."""
    lines = [f"## {command.name}", "", command.help.split("\n\n")[0].replace("\n", " "), ""]
    if command.name in TABLES:
        lines += [f"Configuration file: `{TABLES[command.name][1]}`, or another with `--config`.", ""]
    lines += ["| Option | Environment | Default | Meaning |", "| --- | --- | --- | --- |"]
    for names, text, environment, default in command.options:
        variable = f"`{environment}`" if environment else ""
        lines.append(f"| `{_cell(names)}` | {variable} | {_cell(default)} | {_cell(text)} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _man_page(program: str, app: typer.Typer) -> str:
    """Returns a program's page in man(7): a section for each command, with its options."""
    root, *others = commands(program, app)
    first, _, rest = root.help.partition("\n\n")
    lines = [
        f'.TH {program.upper()} 1 "" "coderd {coderd.__version__}" "User Commands"',
        ".SH NAME",
        f"{program} \\- {_roff(first.replace(chr(10), ' ').rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(root.usage)}",
        ".SH DESCRIPTION",
        *_paragraphs(rest or first),
        ".SH OPTIONS",
        *_man_options(root),
    ]
    if others:
        lines.append(".SH COMMANDS")
    for command in others:
        lines += [f".SS {_roff(command.usage)}", *_paragraphs(command.help), *_man_options(command)]
        if command.name in TABLES:
            lines += [".PP", f"Configuration file: {_roff(str(TABLES[command.name][1]))}"]
    lines += [".SH ENVIRONMENT"]
    for name, meaning in OTHERS.items():
        lines += [".TP", f".B {_roff(name)}", _roff(meaning)]
    return "\n".join([*lines, ""])


def _paragraphs(text: str) -> Iterator[str]:
    for part in text.split("\n\n"):
        yield ".PP"
        if "\n " in part:
            yield from (".nf", *map(_roff, part.split("\n")), ".fi")
        else:
            yield _roff(part.replace("\n", " "))


def _man_options(command: CommandText) -> Iterator[str]:
    for names, text, environment, default in command.options:
        details = [f"environment: {environment}"] * bool(environment) + [f"default: {default}"] * bool(
            default
        )
        behind = f" [{'; '.join(details)}]" if details else ""
        yield from (".TP", f".B {_roff(names)}", _roff(text + behind))


def _roff(text: str) -> str:
    """Escapes what troff would take for a command: backslashes, hyphens, and a leading dot or quote."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> None:
    """Writes ``options.md`` into a directory, and the man pages into ``man`` below it."""
    directory = Path(sys.argv[1])
    (directory / "man").mkdir(parents=True, exist_ok=True)
    (directory / "options.md").write_text(options_page(), encoding="utf-8")
    for name, text in man_pages().items():
        (directory / "man" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
