"""Pages of the audit log and of the access log."""

from typing import Annotated
from uuid import UUID

import msgspec

from coderd.api.messages.message import MAX_PAGE, ApiMessage


class AuditQuery(ApiMessage, frozen=True):
    """Selection of a page of the audit log."""

    before: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    """Only entries with smaller numbers."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] = 100


class AuditEntry(ApiMessage, frozen=True):
    """One change: its actor, action and target."""

    number: int
    at: float
    """Wall-clock seconds."""
    actor: str
    actor_id: UUID | None
    source: str
    """The address that the request came from."""
    action: str
    target: str
    detail: str


class AuditPage(ApiMessage, frozen=True):
    """Entries, newest first."""

    entries: list[AuditEntry]
    next: int | None
    """``before`` of the next page; null: this was the last."""
