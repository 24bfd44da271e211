"""Alembic's entry point.

Migrates over the connection that the store hands in, in the store's own transaction.
"""

from alembic import context

from coderd.identity.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
