"""Which versions run here and at the server, and what is said where they differ."""

import json
import os
from pathlib import Path

import pytest

from coderd import __version__
from coderd.cli import coderctl, coderd, version, wireguard
from coderd.cli.shell import run_app, warn_of_unknown_names
from coderd.model.errors import Exit


@pytest.mark.parametrize("program", ["coderctl", "coderd", "coderd-wireguard"])
def test_every_program_says_its_version(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    apps = {"coderctl": coderctl, "coderd": coderd, "coderd-wireguard": wireguard}
    assert run_app(apps[program].build_app(), program, ["--version"]) == Exit.DONE
    assert capsys.readouterr().out == f"{program} {__version__}\n"


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CODERD_SOCKET", str(tmp_path / "no.sock"))
    monkeypatch.delenv("CODER_URL", raising=False)


@pytest.mark.usefixtures("_here")
def test_without_daemon_and_server_only_the_client_has_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(coderctl.build_app(), "coderctl", ["version", "--json"]) == Exit.DONE
    expected: dict[str, object] = {
        "client": __version__,
        "daemon": None,
        "server": None,
        "url": None,
        "skew": [],
    }
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.usefixtures("_here")
def test_a_daemon_of_another_version_is_a_skew_with_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(version, "_daemon", lambda socket: "0.0.9")
    monkeypatch.setattr(version, "_server", lambda url: ("https://coder.example.com", "99.0.0"))
    assert run_app(coderctl.build_app(), "coderctl", ["version"]) == Exit.DONE
    out, err = capsys.readouterr()
    assert out == f"client  {__version__}\ndaemon  0.0.9\nserver  99.0.0  https://coder.example.com\n"
    assert "The daemon is older than this coderctl: restart it" in err
    assert "The server is newer than this coderctl: update coderctl." in err


def test_versions_are_compared_by_their_numbers() -> None:
    assert version.is_older("0.9.0", "0.10.0")
    assert not version.is_older("1.0.0", "0.10.0")


def test_unknown_variables_are_warned_of_without_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_unknown_names("coderd", {"CODERD_MUT": "secret", "PATH": os.defpath})
    assert capsys.readouterr().err == (
        "coderd: the environment variable CODERD_MUT is unknown and has no effect; did you mean CODERD_MTU?\n"
    )


def test_a_process_begun_anew_does_not_warn_again(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_unknown_names("coderd", {"CODERD_MUT": "1", "CODER_AGENT_TOKEN_MEMFD": "3"})
    assert capsys.readouterr().err == ""
