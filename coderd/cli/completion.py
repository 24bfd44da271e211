"""Shell completion: ``completion SHELL`` prints a script, which asks the hidden ``__complete`` for words.

What can be completed is read from the commands themselves, so that an option is completed once it exists.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from coderd.cli.say import say
from coderd.model.errors import Exit, UserError

SCRIPTS = {
    "bash": """\
_{name}() {
    local IFS=$'\\n'
    COMPREPLY=($({program} __complete bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _{name} {program}
""",
    "zsh": """\
#compdef {program}
_{name}() {
    local -a found=("${(@f)$({program} __complete zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then _describe '{program}' found; else _files; fi
}
compdef _{name} {program}
""",
    "fish": """\
function __{name}
    set -l found ({program} __complete fish -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null \\
        | string replace -- ': ' \\t)
    if test -n "$found"
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c {program} -f -a '(__{name})'
""",
}


class Candidate(NamedTuple):
    """A word that may stand next, and what it does."""

    word: str
    help: str


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> int:
    """Print the script that lets a shell complete commands and options.

    Examples:
      source <(coderctl completion bash)
      coderctl completion zsh > "${fpath[1]}/_coderctl"
      coderctl completion fish > ~/.config/fish/completions/coderctl.fish
    """
    say(*completion_script(str(context.find_root().info_name), shell).splitlines())
    return Exit.DONE


def complete(
    context: typer.Context,
    shell: str,
    words: Annotated[list[str] | None, typer.Argument()] = None,
) -> int:
    """Print what may stand in the place of the last of these words, one candidate a line."""
    for candidate in candidates(context.find_root().command, words or [""]):
        say(_line(shell, candidate))
    return Exit.DONE


def completion_script(program: str, shell: str) -> str:
    """Returns the completion script of a program for a shell. Raises UserError for any other shell."""
    if shell not in SCRIPTS:
        raise UserError(
            f"{shell!r} is not a shell with completion",
            exit_code=Exit.USAGE,
            hint=f"It is one of: {', '.join(SCRIPTS)}.",
        )
    script = SCRIPTS[shell].replace("{program}", program)
    return script.replace("{name}", program.replace("-", "_"))


def candidates(root: Any, words: Sequence[str]) -> Iterator[Candidate]:
    """Yields what may stand in the place of the last word.

    Args:
        root: the program's command, as typer made it.
        words: the command line behind the program's name, up to the cursor; the last may be empty.
    """
    command, is_value = root, False
    for word in words[:-1]:
        if is_value:
            is_value = False
        elif not (is_value := _takes_value(command, word)):
            command = getattr(command, "commands", {}).get(word, command)
    last = words[-1]
    if is_value:
        return
    if last.startswith("-"):
        yield from _options(command, last)
        return
    for name, child in sorted(getattr(command, "commands", {}).items()):
        if name.startswith(last) and not child.hidden:
            yield Candidate(name, child.get_short_help_str(100))


def _options(command: Any, prefix: str) -> Iterator[Candidate]:
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            for name in (*parameter.opts, *parameter.secondary_opts):
                if name.startswith(prefix) and name.startswith("--"):
                    yield Candidate(name, (parameter.help or "").split("  [")[0])
    if "--help".startswith(prefix):
        yield Candidate("--help", "Show help and exit.")


def _takes_value(command: Any, word: str) -> bool:
    """Tells whether a word is an option whose value is the next word."""
    return any(
        word in parameter.opts and not parameter.is_flag
        for parameter in command.params
        if parameter.param_type_name == "option"
    )


def _line(shell: str, candidate: Candidate) -> str:
    """Returns a candidate as its shell's script reads it.

    zsh ends the word at the first unescaped colon; fish's script turns the first colon and space into a tab.
    """
    if shell == "zsh":
        word = candidate.word.replace(":", "\\:")
        return f"{word}:{candidate.help}"
    return f"{candidate.word}: {candidate.help}" if shell == "fish" else candidate.word
