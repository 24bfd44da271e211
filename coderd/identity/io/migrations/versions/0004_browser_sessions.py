"""The token that opened each browser session.

Open sessions end and must sign in again, as the token that opened them is unknown.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table of browser sessions."""
    op.create_table(
        "browser_sessions",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("opened_by", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_browser_sessions"),
        sa.ForeignKeyConstraint(
            ["hash"], ["tokens.hash"], name="fk_browser_sessions_hash", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["opened_by"], ["tokens.hash"], name="fk_browser_sessions_opened_by", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_browser_sessions_opened_by", "browser_sessions", ["opened_by"])


def downgrade() -> None:
    """Drops the table of browser sessions."""
    op.drop_table("browser_sessions")
