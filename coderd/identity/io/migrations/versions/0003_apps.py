"""Web apps of workspaces, and whom they are for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table of web apps."""
    op.create_table(
        "apps",
        sa.Column("workspace_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("share", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "name", name="pk_apps"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["nodes.id"], name="fk_apps_workspace_id", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Drops the table of web apps."""
    op.drop_table("apps")
