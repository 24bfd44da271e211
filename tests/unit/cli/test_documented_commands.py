"""Every ``coderd`` and ``coderctl`` command on the pages is one that the programs take.

Options and arguments are checked, too.
"""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from coderd.cli import coderctl, coderd

ROOT = Path(__file__).parents[3]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`(coder(?:d|ctl) [^`]+)`")
SHELL = ("sh", "bash")
Refused: type[Exception] = typer.BadParameter.__mro__[2]
"""The exception of typer's own parser, whose module depends on typer's version."""
PROGRAMS = {
    "coderd": typer.main.get_command(coderd.build_app()),
    "coderctl": typer.main.get_command(coderctl.build_app()),
}


def shell_lines(page: str) -> Iterator[str]:
    """Yields the commands of shell blocks, and those that stand after a prompt elsewhere."""
    for label, block in FENCED.findall(page):
        is_shell = label.split(" ")[0] in SHELL
        for line in block.replace("\\\n", " ").splitlines():
            if is_shell:
                yield line
            elif line.startswith("$ "):
                yield line.removeprefix("$ ")


def commands(line: str) -> Iterator[list[str]]:
    """Yields each call of one of the programs in a shell line, as words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if set(token) <= set("<>"):
            next(tokens)
        elif set(token) <= set("|&;()"):
            yield from _calls(words)
            words = []
        else:
            words.append(token)


def _calls(words: list[str]) -> Iterator[list[str]]:
    for word in words:
        if re.search(r"(^|=)coder(d|ctl) ", word):
            yield shlex.split(word.rpartition("=")[2])
    if "--" in words:
        words = words[words.index("--") + 1 :]
    called = list(itertools.dropwhile(lambda word: word in ("sudo", "env", "-E") or "=" in word, words))
    if called and called[0] in PROGRAMS:
        yield called


def parse(words: list[str]) -> None:
    """Parses a call as its program does, without running it. Raises Refused if it is refused."""
    name, args = words[0], words[1:]
    command: Any = PROGRAMS[name]
    context: Any = None
    while True:
        context = command.make_context(name, list(args), parent=context)
        if not isinstance(command, TyperGroup):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            assert command.invoke_without_command, f"{name} takes a command"
            return
        found, command_found, args = command.resolve_command(context, rest)
        assert found is not None
        assert command_found is not None
        name, command = found, command_found


def alternatives(quoted: str) -> Iterator[list[str]]:
    """Yields what a synopsis stands for: ``users|tokens list [--json]`` is two calls with an option each."""
    words = re.sub(r"[\[\]…]|\.\.\.", " ", quoted).split()
    yield from map(list, itertools.product(*(word.split("|") for word in words)))


def names_of(command: Any) -> set[str]:
    """Returns a command's options, with both forms of a switch."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return names | {"-h", "--help"}


def unknown_parts(words: list[str]) -> list[str]:
    """Returns the words of a synopsis that are neither a command of their group nor one of its options."""
    command: Any = PROGRAMS[words[0]]
    unknown = []
    options = names_of(command)
    for word in words[1:]:
        if isinstance(command, TyperGroup) and word in command.commands:
            command = command.commands[word]
            options |= names_of(command)
        elif word.startswith("--"):
            unknown += [word] if word.partition("=")[0] not in options else []
        elif (
            isinstance(command, TyperGroup)
            and not command.invoke_without_command
            and re.fullmatch(r"[a-z-]+", word)
        ):
            unknown.append(word)
    return unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_blocks_are_taken(page: Path) -> None:
    refused = []
    for line in shell_lines(page.read_text(encoding="utf-8")):
        for words in commands(line):
            try:
                parse(words)
            except Refused as error:
                refused.append(f"{shlex.join(words)}: {error}")
    assert refused == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_prose_exist_with_their_options(page: Path) -> None:
    prose = " ".join(FENCED.sub("", page.read_text(encoding="utf-8")).split())
    quoted = (words for text in QUOTED.findall(prose) for words in alternatives(text))
    assert [(" ".join(words), unknown) for words in quoted if (unknown := unknown_parts(words))] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    (words,) = commands("sudo coderctl workspaces invent dev | head -1")
    with pytest.raises(Refused, match="invent"):
        parse(words)
    assert unknown_parts(["coderctl", "ping", "--nonsense"]) == ["--nonsense"]
    assert unknown_parts(["coderctl", "nonsense"]) == ["nonsense"]


def test_commands_are_read_out_of_shell_lines() -> None:
    assert list(commands("scripts/lab run x -- coderctl ping dev -c 3")) == [
        ["coderctl", "ping", "dev", "-c", "3"]
    ]
    assert list(commands('coderctl up URL --pin "$PIN" < token')) == [
        ["coderctl", "up", "URL", "--pin", "$PIN"]
    ]
    assert list(commands("ssh -o ProxyCommand='coderctl nc dev 22' dev")) == [["coderctl", "nc", "dev", "22"]]
    assert list(commands("sudo systemctl enable --now coderd")) == []
