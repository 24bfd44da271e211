"""Users, nodes, node keys and tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables of the first release."""
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("enrol_key", sa.LargeBinary(32), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_nodes_owner_id", ondelete="CASCADE"),
        sa.UniqueConstraint("owner_id", "kind", "name", name="uq_nodes_owner_id_kind_name"),
        sa.UniqueConstraint("owner_id", "enrol_key", name="uq_nodes_owner_id_enrol_key"),
    )
    op.create_table(
        "node_keys",
        sa.Column("node_key", sa.LargeBinary(32), nullable=False),
        sa.Column("node_id", sa.Uuid, nullable=False),
        sa.Column("claimed_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("node_key", name="pk_node_keys"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_node_keys_node_id", ondelete="CASCADE"),
        sa.UniqueConstraint("node_id", name="uq_node_keys_node_id"),
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=True),
        sa.Column("node_id", sa.Uuid, nullable=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=True),
        sa.PrimaryKeyConstraint("hash", name="pk_tokens"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_tokens_node_id", ondelete="CASCADE"),
        sa.CheckConstraint("(user_id IS NULL) <> (node_id IS NULL)", name=op.f("ck_tokens_one_owner")),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])
    op.create_index("ix_tokens_node_id", "tokens", ["node_id"])


def downgrade() -> None:
    """Drops the tables of the first release."""
    for table in ("tokens", "node_keys", "nodes", "users"):
        op.drop_table(table)
