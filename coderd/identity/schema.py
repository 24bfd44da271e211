"""The tables, in words that SQLite and PostgreSQL share.

``io/migrations`` creates them; a test holds both together.

    users <- nodes <- node_keys
      ^  ^     ^  ^
      |  +-----+--+- shares (a workspace with a user, or its offer)
      |        +---- apps (a web app of a workspace)
      +--------+---- tokens (of a user or of a node; a join key may name the workspace that it joins)

    audit (who changed what; refers to nothing, so that it outlives everything)
    openings (who opened what; refers to nothing either, and the oldest go)

Whatever belongs to a user or a node goes with it (ON DELETE CASCADE): a token never outlives its owner.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

users = Table(
    "users",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("role", String(16), nullable=False, server_default="member"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("owner_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("enrol_key", LargeBinary(32), nullable=True),
    Column("path", String(16), nullable=False, server_default="direct"),
    Column("is_waiting", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("owner_id", "kind", "name"),
    UniqueConstraint("owner_id", "enrol_key"),
)
"""``enrol_key``: the node key named, without proof, when a device enrolled; finds the same device again.
``is_waiting``: for an admin's approval."""

node_keys = Table(
    "node_keys",
    metadata,
    Column("node_key", LargeBinary(32), primary_key=True),
    Column("node_id", Uuid, ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("claimed_at", Float, nullable=False),
)
"""Proven node keys: one key never belongs to two nodes, one node never has two keys. The relay admits
these."""

shares = Table(
    "shares",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), nullable=True),
    Column("offered_to", String(63), nullable=True),
    Column("state", String(16), nullable=False),
    Column("ports", String(800), nullable=False),
    Column("terminal", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("lapses_at", Float, nullable=True),
    Column("expires_at", Float, nullable=True),
    Column("accepted_at", Float, nullable=True),
    UniqueConstraint("workspace_id", "user_id"),
    UniqueConstraint("workspace_id", "offered_to"),
    Index(None, "user_id"),
    Index(None, "lapses_at"),
    Index(None, "expires_at"),
)
"""Workspaces that are shared with a user, or offered.

``state``: offered, declined (the giver sees it as offered) or accepted. ``offered_to``: the name as the giver
wrote it, null once accepted; ``user_id`` is null where no user has that name. ``ports``: ``all``, ``none``, a
list, or ``apps`` for those of the apps that are not the owner's alone. ``lapses_at`` ends an offer,
``expires_at`` the share itself.
"""

tokens = Table(
    "tokens",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("id", Uuid, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(63), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), nullable=True),
    Column("node_id", Uuid, ForeignKey("nodes.id", ondelete="CASCADE"), nullable=True),
    Column("workspace_id", Uuid, ForeignKey("nodes.id", ondelete="CASCADE"), nullable=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=True),
    Column("uses_left", Integer, nullable=True),
    Column("parent_id", Uuid, nullable=True),
    Column("is_sign_in", Boolean, nullable=False, server_default=false()),
    CheckConstraint("(user_id IS NULL) <> (node_id IS NULL)", name="one_owner"),
    Index(None, "user_id"),
    Index(None, "node_id"),
    Index(None, "parent_id"),
)
"""Hashes of bearer tokens. ``id`` is the token's name in public; ``uses_left`` and ``workspace_id`` are a
join key's.

``parent_id`` is the id of the token that this one was made with. It refers to nothing, as a session may be
signed out and leave what it made: its children then get its own parent (``io/tokens.py``), so that no chain
is ever cut in the middle.
"""

apps = Table(
    "apps",
    metadata,
    Column("workspace_id", Uuid, ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("port", Integer, nullable=False),
    Column("share", String(16), nullable=False),
)
"""Web apps that have a slug, or that others than the workspace's owner may open; any other port is the
owner's app, too."""

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", String(130), nullable=False),
    Column("actor_id", Uuid, nullable=True),
    Column("source", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("target", String(200), nullable=False),
    Column("detail", String(200), nullable=False),
    sqlite_autoincrement=True,
)
"""Only ever appended to; SQLite refuses anything else by triggers."""

openings = Table(
    "openings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", String(130), nullable=False),
    Column("actor_id", Uuid, nullable=False),
    Column("action", String(32), nullable=False),
    Column("target", String(200), nullable=False),
    Column("detail", String(200), nullable=False),
    Column("user_id", Uuid, nullable=True),
    Index(None, "user_id"),
    sqlite_autoincrement=True,
)
"""Who opened what of late; ``user_id`` is the person, who has a share of the room."""

outside_changes = Table(
    "outside_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("node_id", Uuid, nullable=True),
    Column("node_key", LargeBinary(32), nullable=True),
    sqlite_autoincrement=True,
)
"""Nodes and proven keys that another program has revoked: a running server takes these rows and ends the
connections."""
