"""What ``GET /api/v1/health`` answers: findings with stable codes, each with what it means and what to do."""

from typing import Literal, TypeAlias

from coderd.api.messages import ApiMessage

SeverityText: TypeAlias = Literal["ok", "warning", "error"]
"""``warning``: something is worse than it could be; ``error``: something that was asked for does not work."""


class HealthFinding(ApiMessage, frozen=True):
    """One thing that is not as it should be."""

    code: str
    """A letter E, a section and a number, ``EDERP01`` say; docs/server.md lists them, and none ever changes its meaning."""
    severity: SeverityText
    message: str
    """One sentence: what is wrong, and what comes of it."""
    fix: str
    """One sentence: what to do."""


class HealthReport(ApiMessage, frozen=True):
    """All findings, the worst first."""

    severity: SeverityText
    """That of the worst finding."""
    findings: tuple[HealthFinding, ...]
    checked_at: float
    """When the access URL was last gone through, in wall-clock seconds; 0 while that is still to come."""
    access_url: str
    version: str
