"""What was opened: tunnels, by whom and to where.

Apart from the audit log, because the oldest of these go.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table of access records."""
    op.create_table(
        "openings",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.String(130), nullable=False),
        sa.Column("actor_id", sa.Uuid, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("detail", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_openings"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drops the table of access records."""
    op.drop_table("openings")
