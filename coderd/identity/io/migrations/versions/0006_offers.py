"""A share is an offer until its guest accepts it, names ports, may carry a terminal, and may end.

Shares that are there were agreed on under the old terms, which they keep: accepted, all ports, with the
terminal.
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table of shares anew, with ids for the rows that are there: no other table refers to it."""
    old = sa.table(
        "shares",
        sa.column("workspace_id", sa.Uuid),
        sa.column("user_id", sa.Uuid),
        sa.column("created_at", sa.Float),
    )
    kept = [dict(row._mapping) for row in op.get_bind().execute(sa.select(old))]
    op.drop_table("shares")
    shares = op.create_table(
        "shares",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("workspace_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=True),
        sa.Column("offered_to", sa.String(63), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ports", sa.String(800), nullable=False),
        sa.Column("terminal", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("lapses_at", sa.Float, nullable=True),
        sa.Column("expires_at", sa.Float, nullable=True),
        sa.Column("accepted_at", sa.Float, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["nodes.id"], name="fk_shares_workspace_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_shares_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("workspace_id", "user_id", name="uq_shares_workspace_id_user_id"),
        sa.UniqueConstraint("workspace_id", "offered_to", name="uq_shares_workspace_id_offered_to"),
    )
    for column in ("user_id", "lapses_at", "expires_at"):
        op.create_index(f"ix_shares_{column}", "shares", [column])
    as_before = {"state": "accepted", "ports": "all", "terminal": True}
    op.bulk_insert(
        shares, [{**row, **as_before, "id": uuid4(), "accepted_at": row["created_at"]} for row in kept]
    )


def downgrade() -> None:
    """Refuses to go back: offers and their terms would be lost."""
    raise NotImplementedError("restore a backup instead")
