"""Parents of tokens and whether each is a sign-in; devices that wait for approval.

Adds the user of each opening, and the table of other programs' changes.

Tokens that are there keep their life. A session that is good for anything and that no record calls made by
another token is a sign-in. Browsers' sessions get the token that opened them for a parent, in place of a
table of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_IS_SIGN_IN = """
UPDATE tokens SET is_sign_in = 1
WHERE kind = 'session' AND scope = 'all' AND NOT EXISTS (
  SELECT 1 FROM audit
  WHERE action = 'token.create' AND replace(audit.detail, '-', '') = 'session ' || replace(tokens.id, '-', '')
)
"""
_PARENTS = """
UPDATE tokens SET parent_id = (
  SELECT opener.id FROM browser_sessions JOIN tokens opener ON opener.hash = browser_sessions.opened_by
  WHERE browser_sessions.hash = tokens.hash
)
WHERE hash IN (SELECT hash FROM browser_sessions)
"""
_AS_OPENERS = """
UPDATE tokens SET is_sign_in = (SELECT opener.is_sign_in FROM tokens opener WHERE opener.id = tokens.parent_id)
WHERE parent_id IS NOT NULL
"""


def upgrade() -> None:
    """Adds columns, none of which any row can lack."""
    op.add_column("tokens", sa.Column("parent_id", sa.Uuid, nullable=True))
    op.add_column("tokens", sa.Column("is_sign_in", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("ix_tokens_parent_id", "tokens", ["parent_id"])
    for statement in (_IS_SIGN_IN, _PARENTS, _AS_OPENERS):
        op.execute(statement)
    op.drop_table("browser_sessions")
    op.add_column("nodes", sa.Column("is_waiting", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("openings", sa.Column("user_id", sa.Uuid, nullable=True))
    op.create_index("ix_openings_user_id", "openings", ["user_id"])
    op.create_table(
        "outside_changes",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("node_id", sa.Uuid, nullable=True),
        sa.Column("node_key", sa.LargeBinary(32), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outside_changes"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Refuses to go back: a revocation would no longer reach what it must end."""
    raise NotImplementedError("restore a backup instead")
