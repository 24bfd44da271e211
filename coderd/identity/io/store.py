"""The store: users, nodes, tokens and the audit log of one server, in SQL.

Every method blocks: call it in a thread.

Each change is one transaction that takes the write lock at its beginning, and what must happen once is
decided by a constraint or a row count inside it, never by looking first. The audit record of a change is part
of its transaction.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from coderd.identity.io.access_records import AccessRecords
from coderd.identity.io.apps import Apps
from coderd.identity.io.audit import AuditLog
from coderd.identity.io.database import Database
from coderd.identity.io.expiry import Expiry
from coderd.identity.io.nodes import Nodes
from coderd.identity.io.sessions import Sessions
from coderd.identity.io.shares import Shares
from coderd.identity.io.tokens import Tokens
from coderd.identity.io.users import Users
from coderd.identity.policy import Terms
from coderd.model import RandomBytes
from coderd.model.quotas import Quotas


class Store:
    """All identities of one server. Raises what ``Database`` raises.

    Args:
        path: the SQLite file; made, readable by us alone, if it is missing.
        rng: randomness for tokens and ids.
        clock: wall-clock seconds.
        terms: how long what is let in may stay.
        quotas: how much one user may have.
    """

    def __init__(
        self,
        path: Path,
        *,
        rng: RandomBytes = os.urandom,
        clock: Callable[[], float] = time.time,
        terms: Terms | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self._database = Database(path, rng=rng, clock=clock, terms=terms, quotas=quotas)
        self.users = Users(self._database)
        self.nodes = Nodes(self._database)
        self.shares = Shares(self._database)
        self.tokens = Tokens(self._database)
        self.sessions = Sessions(self._database)
        self.apps = Apps(self._database)
        self.audit = AuditLog(self._database)
        self.access_records = AccessRecords(self._database)
        self.expiry = Expiry(self._database)

    @property
    def n_changes(self) -> int:
        """A number that differs after every change by way of this object."""
        return self._database.n_changes

    def close(self) -> None:
        """Closes every connection to the database."""
        self._database.close()
