"""Roles instead of administrators, shares, path rules, tokens with names, scopes and uses, and the audit log.

``users`` and ``nodes`` are altered in place: to make either anew would, with foreign keys in force, delete
what refers to it.
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE TRIGGER audit_no_{verb} BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END
"""


def upgrade() -> None:
    """Makes every administrator an owner, so that no right is lost."""
    op.add_column("users", sa.Column("role", sa.String(16), nullable=False, server_default="member"))
    op.execute("UPDATE users SET role = 'owner' WHERE is_admin")
    op.drop_column("users", "is_admin")
    op.add_column("nodes", sa.Column("path", sa.String(16), nullable=False, server_default="direct"))
    _create_shares()
    _renew_tokens()
    _create_audit()


def _create_shares() -> None:
    op.create_table(
        "shares",
        sa.Column("workspace_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "user_id", name="pk_shares"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["nodes.id"], name="fk_shares_workspace_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_shares_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_shares_user_id", "shares", ["user_id"])


def _renew_tokens() -> None:
    """Nothing refers to tokens, so the table is made anew, with ids for those that are there."""
    old = sa.table(
        "tokens",
        sa.column("hash", sa.LargeBinary),
        sa.column("kind", sa.String),
        sa.column("user_id", sa.Uuid),
        sa.column("node_id", sa.Uuid),
        sa.column("created_at", sa.Float),
        sa.column("expires_at", sa.Float),
    )
    kept = [dict(row._mapping) for row in op.get_bind().execute(sa.select(old))]
    op.drop_table("tokens")
    tokens = op.create_table(
        "tokens",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=True),
        sa.Column("node_id", sa.Uuid, nullable=True),
        sa.Column("workspace_id", sa.Uuid, nullable=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=True),
        sa.Column("uses_left", sa.Integer, nullable=True),
        sa.PrimaryKeyConstraint("hash", name="pk_tokens"),
        sa.UniqueConstraint("id", name="uq_tokens_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_tokens_node_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["nodes.id"], name="fk_tokens_workspace_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("(user_id IS NULL) <> (node_id IS NULL)", name=op.f("ck_tokens_one_owner")),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])
    op.create_index("ix_tokens_node_id", "tokens", ["node_id"])
    op.bulk_insert(tokens, [{**row, "id": uuid4(), "name": "", "scope": "all"} for row in kept])


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.String(130), nullable=False),
        sa.Column("actor_id", sa.Uuid, nullable=True),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("detail", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(APPEND_ONLY.format(verb=verb))


def downgrade() -> None:
    """Refuses to go back: roles and shares would be lost."""
    raise NotImplementedError("restore a backup instead")
