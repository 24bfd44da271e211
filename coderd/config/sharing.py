"""The settings of ``coderd server`` about sharing workspaces."""

from dataclasses import dataclass

from coderd.config.kinds import SWITCH, at_most
from coderd.config.quotas import HIGHEST
from coderd.config.sources import Setting, Sources
from coderd.model import limits

ACCEPT_SHARES = Setting(
    "accept_shares",
    "CODERD_ACCEPT_SHARES",
    SWITCH,
    "false",
    "Accept each share at once, without asking its user. Every user then learns which other users exist.",
)
MAX_SHARES = Setting(
    "max_shares",
    "CODERD_MAX_SHARES",
    at_most(HIGHEST),
    str(limits.MAX_SHARES_GIVEN),
    "The most shares and offers that one user may have given.",
)
SHARING_SETTINGS = (ACCEPT_SHARES, MAX_SHARES)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingOptions:
    """How users may share workspaces."""

    accepts: bool = False
    """Whether an offer counts as accepted from the start."""
    max_given: int = limits.MAX_SHARES_GIVEN
    """Shares and offers that one user may have given."""


def parse_sharing_options(sources: Sources) -> SharingOptions:
    """Returns the options out of all sources. Raises UserError, naming the setting."""
    return SharingOptions(accepts=sources.get(ACCEPT_SHARES), max_given=sources.get(MAX_SHARES))
