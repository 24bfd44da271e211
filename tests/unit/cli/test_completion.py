"""What a shell may complete, and the scripts that ask for it."""

import subprocess
from pathlib import Path

import pytest
import typer

from coderd.cli import coderctl, coderd
from coderd.cli.completion import SCRIPTS, candidates, completion_script
from coderd.cli.shell import run_app
from coderd.model.errors import Exit, UserError

CODERCTL = typer.main.get_command(coderctl.build_app())
CODERD = typer.main.get_command(coderd.build_app())


def words(*typed: str, root: object = CODERCTL) -> list[str]:
    return [candidate.word for candidate in candidates(root, typed)]


def test_commands_are_completed_and_hidden_ones_are_not() -> None:
    assert words("st") == ["status"]
    assert {"ping", "workspaces", "version"} <= set(words(""))
    assert not {"debug", "__complete"} & set(words(""))
    assert words("workspaces", "sh") == ["share", "show"]


def test_options_are_completed_from_the_table_with_their_negations() -> None:
    assert words("run", "--listen", root=CODERD) == ["--listen-port"]
    assert words("run", "--no-t", root=CODERD) == ["--no-terminal"]
    assert "--help" in words("server", "--", root=CODERD)


def test_the_value_of_an_option_is_left_to_the_shell() -> None:
    assert words("up", "--token-file", "") == []
    assert words("run", "--state-dir", "st", root=CODERD) == []
    assert words("workspaces", "list", "--json", "") == []


def test_a_value_that_is_a_command_s_name_does_not_lead_into_it() -> None:
    assert "--state-dir" in words("server", "--state-dir", "backup", "--", root=CODERD)
    assert "--access-url" in words("server", "--state-dir", "backup", "--a", root=CODERD)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_names_its_program_and_nothing_is_left_to_fill_in(shell: str) -> None:
    script = completion_script("coderctl", shell)
    assert f"coderctl __complete {shell} -- " in script
    assert "{program}" not in script
    assert "{name}" not in script


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_is_printed_as_it_is(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(coderctl.build_app(), "coderctl", ["completion", shell]) == Exit.DONE
    assert capsys.readouterr().out == completion_script("coderctl", shell)


def test_another_shell_is_wrong_usage() -> None:
    with pytest.raises(UserError, match="'csh' is not a shell with completion") as caught:
        completion_script("coderctl", "csh")
    assert caught.value.exit_code is Exit.USAGE


def test_bash_completes_by_the_script(tmp_path: Path) -> None:
    fake = tmp_path / "coderctl"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    fake.chmod(0o755)
    ask = 'COMP_WORDS=(coderctl workspaces "") COMP_CWORD=2; _coderctl; printf "[%s]" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f"{completion_script('coderctl', 'bash')}\n{ask}"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[__complete bash -- workspaces ]"


@pytest.mark.parametrize(("shell", "line"), [("bash", "down"), ("zsh", "down:"), ("fish", "down: ")])
def test_each_shell_gets_the_lines_that_its_script_reads(
    shell: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(coderctl.build_app(), "coderctl", ["__complete", shell, "--", "dow"]) == Exit.DONE
    assert capsys.readouterr().out.startswith(line)
