"""Databases of every schema that was ever released open with all that is in them.

Those of a newer program do not.
"""

import sqlite3
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from coderd.identity.io.database import MIGRATIONS, NewerSchema, known_revisions
from coderd.identity.io.store import Store
from coderd.identity.people import Node
from coderd.identity.schema import metadata
from coderd.identity.tokens import TokenKind, hash_token
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.model.roles import Scope, UserRole


def node_of(store: Store, token: str) -> Node | None:
    bearer = store.tokens.find(token)
    return bearer.node if bearer is not None else None


FIXTURES = Path(__file__).parents[2] / "fixtures"
MADE_AT = 1_790_000_000.0


@pytest.fixture
def old(tmp_path: Path) -> tuple[Path, list[str]]:
    """A database of migration 0001, and the tokens of admin, ann, bob, ann/dev and ann/laptop in it."""
    return restored(tmp_path, "identity-0001.sql")


def restored(directory: Path, name: str) -> tuple[Path, list[str]]:
    """The database of a dump, and the tokens that it knows."""
    dump = (FIXTURES / name).read_text("ascii")
    path = directory / "identity.db"
    connection = sqlite3.connect(path)
    connection.executescript(dump)
    connection.close()
    line = next(line for line in dump.splitlines() if line.startswith("-- Tokens: "))
    return path, line.removeprefix("-- Tokens: ").split()


def test_a_database_of_0001_opens_with_everything_in_it(old: tuple[Path, list[str]]) -> None:
    path, (admin, ann, bob, dev, laptop) = old
    store = Store(path, clock=lambda: MADE_AT + 60)
    roles = {user.name: user.role for user in store.users.everybody()}
    assert roles == {"admin": UserRole.OWNER, "ann": UserRole.MEMBER, "bob": UserRole.MEMBER}
    users = [store.tokens.find_user(token) for token in (admin, ann, bob)]
    assert [user.name for user in users if user is not None] == ["admin", "ann", "bob"]
    workspace, device = node_of(store, dev), node_of(store, laptop)
    assert workspace is not None
    assert device is not None
    assert (workspace.full_name, workspace.path, workspace.shared_with) == ("ann/dev", PathRule.DIRECT, ())
    assert store.nodes.partners(device) == [workspace]
    assert len(store.nodes.every(NodeKind.WORKSPACE)) == 2
    listed = store.tokens.of(workspace.owner)
    assert {(each.kind, each.scope, each.node) for each in listed} == {
        (TokenKind.SESSION, Scope.ALL, ""),
        (TokenKind.WORKSPACE, Scope.ALL, "ann/dev"),
        (TokenKind.DEVICE, Scope.ALL, "ann/laptop"),
    }
    assert len({each.token_id for each in listed}) == 3
    store.close()


def test_proven_keys_survive_and_expiries_too(old: tuple[Path, list[str]]) -> None:
    path, tokens = old
    store = Store(path, clock=lambda: MADE_AT + 3601)
    assert store.tokens.find_user(tokens[2]) is None
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM node_keys").fetchone() == (2,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_database_of_0004_opens_with_everything_in_it(tmp_path: Path) -> None:
    path, (admin, ann, bob, dev, laptop, join) = restored(tmp_path, "identity-0004.sql")
    store = Store(path, clock=lambda: MADE_AT + 60)
    users = [store.tokens.find_user(token) for token in (admin, ann, bob)]
    assert [user.name for user in users if user is not None] == ["admin", "ann", "bob"]
    workspace, device = node_of(store, dev), node_of(store, laptop)
    assert workspace is not None
    assert device is not None
    assert (workspace.path, [guest.name for guest in workspace.shared_with]) == (PathRule.RELAY_ONLY, ["bob"])
    assert {node.full_name for node in store.nodes.partners(device)} == {"ann/dev", "bob/dev"}
    assert [(app.name, app.port) for app in store.apps.of(workspace.node_id)] == [("docs", 8080)]
    session = next(
        line.removeprefix("-- Session: ")
        for line in (FIXTURES / "identity-0004.sql").read_text("ascii").splitlines()
        if line.startswith("-- Session: ")
    )
    found = store.sessions.find(bytes.fromhex(session))
    assert found is not None
    assert found.user.name == "bob"
    assert store.tokens.redeem(join, "image").result.node.full_name == "ann/image"
    assert store.audit.page()
    assert store.access_records.page() == []
    store.close()


def test_shares_of_a_database_of_0005_keep_their_terms(tmp_path: Path) -> None:
    path, (_, ann, bob, dev, laptop, _) = restored(tmp_path, "identity-0005.sql")
    store = Store(path, clock=lambda: MADE_AT + 60)
    assert store.tokens.find_user(ann) is not None
    assert store.tokens.find_user(bob) is not None
    workspace, device = node_of(store, dev), node_of(store, laptop)
    assert workspace is not None
    assert device is not None
    assert [guest.name for guest in workspace.shared_with] == ["bob"]
    assert {node.full_name for node in store.nodes.partners(device)} == {"ann/dev", "bob/dev"}
    assert [opening.action for opening in store.access_records.page()] == ["tunnel.open"]
    store.close()
    with sqlite3.connect(path) as connection:
        terms = connection.execute(
            "SELECT state, ports, terminal, offered_to, lapses_at, expires_at, created_at, accepted_at FROM shares"
        ).fetchall()
        assert terms == [("accepted", "all", 1, None, None, None, MADE_AT, MADE_AT)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def test_sessions_of_a_database_of_0005_keep_their_life_and_first_tokens_are_sign_ins(tmp_path: Path) -> None:
    path, (_, ann, bob, *_) = restored(tmp_path, "identity-0005.sql")
    made, anns = UUID(int=7), hash_token(ann)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO tokens SELECT ?, ?, kind, 'ci', scope, user_id, NULL, NULL, created_at, NULL, NULL FROM tokens "
            "WHERE hash = ?",
            (hash_token("cdrs_made"), made.hex, anns),
        )
        connection.execute(
            "INSERT INTO audit (at, actor, source, action, target, detail) VALUES (?, 'ann', '', 'token.create', 'ann:ci', ?)",
            (MADE_AT, f"session {made}"),
        )
    connection.close()
    store = Store(path, clock=lambda: MADE_AT + 60)
    known = {token: store.tokens.find(token) for token in (ann, bob, "cdrs_made")}
    assert {token: bearer and bearer.record.is_sign_in for token, bearer in known.items()} == {
        ann: True,
        bob: True,
        "cdrs_made": False,
    }
    assert all(bearer and bearer.record.expires_at is None for bearer in known.values())
    bobs = known[bob]
    assert bobs is not None
    browser = next(each for each in store.tokens.of(bobs.user) if each.name == "browser")
    assert (browser.parent_id, browser.is_sign_in) == (bobs.record.token_id, True)
    store.tokens.revoke(bobs.user, bobs.record.token_id)
    assert browser not in store.tokens.of(bobs.user)
    store.close()


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("identity-*.sql")))
def test_a_migrated_database_has_the_schema_of_a_new_one(name: str, tmp_path: Path) -> None:
    path, _ = restored(tmp_path, name)
    Store(path).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_files_names_are_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert {script.revision for script in scripts.walk_revisions()} == known_revisions()
    assert scripts.get_current_head() == max(known_revisions())


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity.db"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(NewerSchema):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    connection.close()
