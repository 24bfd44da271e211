import os
import pwd
import stat
from pathlib import Path

import pytest

from coderd.cli.login import (
    Session,
    find_session,
    forget_session,
    load_session,
    save_session,
    session_path,
)
from coderd.config.io.token import read_token
from coderd.model.errors import Exit, UserError

HERE = Session("https://192.0.2.10:3000", "cdrs_here")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_session_is_kept_for_its_owner_alone() -> None:
    save_session(Session("http://old", "old"))
    save_session(HERE)
    assert load_session() == HERE
    assert stat.S_IMODE(session_path().stat().st_mode) == 0o600
    assert [path.name for path in session_path().parent.iterdir()] == ["session.json"]
    forget_session()
    forget_session()
    assert load_session() is None


def test_a_session_does_not_show_its_token() -> None:
    assert "cdrs" not in repr(HERE)


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"url":1}', b"\xff"])
def test_a_damaged_session_is_no_session(damaged: bytes) -> None:
    save_session(HERE)
    session_path().write_bytes(damaged)
    assert load_session() is None


def test_what_is_given_goes_before_what_is_saved(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("cdrs_given")
    save_session(HERE)
    assert find_session(None, None) == HERE
    assert find_session("https://192.0.2.10:3000/", None) == HERE
    assert find_session("https://192.0.2.11:3000", str(tmp_path / "token")) == Session(
        "https://192.0.2.11:3000", "cdrs_given"
    )
    assert find_session(None, str(tmp_path / "token")).token == "cdrs_given"


def test_a_pin_is_remembered_until_another_is_given(tmp_path: Path) -> None:
    first, other = "ab" * 32, "cd" * 32
    kept = Session(f"https://192.0.2.10:3000#sha256:{first}", "cdrs_kept")
    save_session(kept)
    (tmp_path / "token").write_text("cdrs_given")
    assert find_session(None, None) == kept
    assert find_session("https://192.0.2.10:3000", None) == kept
    assert find_session("https://192.0.2.10:3000", str(tmp_path / "token")) == Session(kept.url, "cdrs_given")
    repinned = f"https://192.0.2.10:3000#sha256:{other}"
    assert find_session(repinned, None) == Session(repinned, "cdrs_kept")


def test_without_a_server_it_is_wrong_usage() -> None:
    with pytest.raises(UserError) as caught:
        find_session(None, None)
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb\n", b"\xff\xfe", b"x" * 5000])
def test_what_is_no_token_is_refused_without_repeating_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_token(str(tmp_path / "token"), HERE.url)
    assert caught.value.exit_code is Exit.REFUSED
    assert "words" not in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_under_sudo_the_session_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for directory in [tmp_path, *list(tmp_path.parents)[:3]]:
        directory.chmod(0o755)
    nobody = pwd.struct_passwd(("nobody", "x", 65534, 65534, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: nobody)
    monkeypatch.setenv("SUDO_UID", "65534")
    save_session(Session("https://192.0.2.10:3000", "cdrs_secret"))
    file = home / ".config" / "coderd" / "session.json"
    assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (65534, 0o600)
    assert load_session() == Session("https://192.0.2.10:3000", "cdrs_secret")
    assert os.geteuid() == 0
    forget_session()
    assert not file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_under_sudo_a_link_into_roots_files_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, roots = tmp_path / "home", tmp_path / "roots"
    home.mkdir()
    roots.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    (home / ".config").symlink_to(roots)
    nobody = pwd.struct_passwd(("nobody", "x", 65534, 65534, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: nobody)
    monkeypatch.setenv("SUDO_UID", "65534")
    with pytest.raises(UserError, match="cannot be saved"):
        save_session(Session("https://192.0.2.10:3000", "cdrs_secret"))
    assert list(roots.iterdir()) == []


def test_that_a_token_may_travel_for_all_to_read_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("cdrs_given")
    with pytest.raises(UserError) as refused:
        find_session("http://192.0.2.10:3000", str(tmp_path / "token"))
    assert refused.value.exit_code is Exit.REFUSED
    accepted = find_session("http://192.0.2.10:3000", str(tmp_path / "token"), insecure=True)
    save_session(accepted)
    assert find_session(None, None) == find_session("http://192.0.2.10:3000", None) == accepted
    with pytest.raises(UserError):
        find_session("http://192.0.2.11:3000", str(tmp_path / "token"))
