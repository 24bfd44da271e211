"""``coderctl derp-map``: the daemon's map, a file's, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coderd.control.messages import DerpMapInfo, RelayCheck
from coderd.model.errors import Exit
from tests.shell.control_world import ScriptedHandler
from tests.shell.test_cli_commands import ctl, daemon

REGION = {"RegionID": 1, "RegionCode": "far"}
NODE = {
    "Name": "1a",
    "RegionID": 1,
    "HostName": "127.0.0.1",
    "STUNPort": -1,
    "DERPPort": 1,
    "ForceHTTP": True,
}
MAP: dict[str, object] = {"Regions": {"1": REGION | {"Nodes": [NODE]}}}


def test_the_daemons_map_is_shown_and_as_json_has_tailscales_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon(monkeypatch, ScriptedHandler(**{"derp-map": ((), DerpMapInfo(map=MAP, home=1))})):
        assert ctl("derp-map") == Exit.DONE
        assert "1       far   1a    127.0.0.1  1     -     home, plain HTTP\n" in capsys.readouterr().out
        assert ctl("derp-map", "--json") == Exit.DONE
    assert json.loads(capsys.readouterr().out)["map"] == MAP


@pytest.mark.parametrize(("problems", "code"), [((), Exit.DONE), (("TCP: Connection refused",), Exit.FAILED)])
def test_a_check_ends_1_where_a_node_fails(
    problems: tuple[str, ...], code: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = DerpMapInfo(map=MAP, checks=(RelayCheck(region=1, node="1a", problems=problems),))
    with daemon(monkeypatch, ScriptedHandler(**{"derp-map": ((), found)})):
        assert ctl("derp-map", "--check") == code


def test_a_file_is_tried_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(MAP))
    assert ctl("derp-map", "--file", str(path)) == Exit.DONE
    path.write_text("{}")
    assert ctl("derp-map", "--file", str(path)) == Exit.USAGE
    assert "it has no regions" in capsys.readouterr().err
    assert ctl("derp-map", "--file", str(tmp_path / "none")) == Exit.USAGE
    assert "No such file" in capsys.readouterr().err


def test_a_file_with_the_servers_own_number_is_remarked_upon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "map.json"
    region = {"RegionID": 999, "Nodes": [NODE | {"RegionID": 999}]}
    path.write_text(json.dumps({"Regions": {"999": region}}))
    assert ctl("derp-map", "--file", str(path)) == Exit.DONE
    assert "region 999 is the server's own, unless --derp-server-region-id" in capsys.readouterr().err


@pytest.mark.slow
def test_a_files_relays_are_probed_from_here_and_the_result_is_all_that_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(MAP))
    command = [
        sys.executable,
        "-m",
        "coderd.cli.coderctl",
        "derp-map",
        "--json",
        "--check",
        "--file",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (Exit.FAILED, "")
    (check,) = json.loads(done.stdout)["checks"]
    assert check["problems"] == ["TCP: Connection refused"]
