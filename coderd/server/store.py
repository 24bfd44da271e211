"""Opening of a server's database with its options."""

from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from coderd.config.lifetimes import LifetimeOptions
from coderd.identity.io.database import NewerSchema
from coderd.identity.io.store import Store
from coderd.identity.policy import Terms
from coderd.model.errors import UserError
from coderd.model.quotas import Quotas


def open_store(database: Path, lifetimes: LifetimeOptions, quotas: Quotas | None = None) -> Store:
    """Opens the identities of a server. Raises UserError if the database cannot be used."""
    terms = Terms(lifetimes.session, lifetimes.max_token, lifetimes.device, lifetimes.needs_approval)
    try:
        return Store(database, terms=terms, quotas=quotas or Quotas())
    except NewerSchema as error:
        raise UserError(
            f"the database {database} was written by a newer coderd (schema {error})",
            hint="Run that coderd, or restore the backup from before it.",
            code="newer_schema",
        ) from None
    except (OSError, SQLAlchemyError) as error:
        raise UserError(
            f"the database {database} cannot be used: {type(error).__name__}",
            hint="Restore it from a backup.",
            code="database_unusable",
        ) from error
