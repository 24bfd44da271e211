"""Answer of ``GET /api/v1/health``: findings with stable codes, each with its meaning and its fix."""

from typing import Literal, TypeAlias

from coderd.api.messages import ApiMessage

SeverityText: TypeAlias = Literal["ok", "warning", "error"]
"""``warning``: degraded, but working; ``error``: something that is switched on does not work."""


class HealthFinding(ApiMessage, frozen=True):
    """One condition that needs attention."""

    code: str
    """The letter E, a section and a number, such as ``EDERP01``. docs/server.md lists them.

    A code never changes its meaning.
    """
    severity: SeverityText
    message: str
    """Sentence that says what fails and what its users notice."""
    fix: str
    """What to do, as a sentence."""


class HealthReport(ApiMessage, frozen=True):
    """All findings, the worst first."""

    severity: SeverityText
    """Severity of the worst finding."""
    findings: tuple[HealthFinding, ...]
    checked_at: float
    """When the access URL was last checked, in wall-clock seconds; 0: not yet."""
    access_url: str
    version: str
