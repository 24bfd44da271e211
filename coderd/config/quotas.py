"""The settings of ``coderd server`` about how much one user may have."""

from typing import Final

from coderd.config.kinds import at_most
from coderd.config.sources import Setting, Sources
from coderd.model import limits
from coderd.model.quotas import Quotas

HIGHEST: Final = 1_000_000
"""The most that any quota may be set to."""
_COUNT = at_most(HIGHEST)

MAX_WORKSPACES = Setting(
    "max_workspaces",
    "CODERD_MAX_WORKSPACES",
    _COUNT,
    str(limits.MAX_WORKSPACES_PER_USER),
    "The most workspaces that one user may have.",
)
MAX_DEVICES = Setting(
    "max_devices",
    "CODERD_MAX_DEVICES",
    _COUNT,
    str(limits.MAX_DEVICES_PER_USER),
    "The most devices that one user may have.",
)
MAX_TOKENS = Setting(
    "max_tokens",
    "CODERD_MAX_TOKENS",
    _COUNT,
    str(limits.MAX_TOKENS_PER_USER),
    "The most sessions and join keys that one user may have.",
)
MAX_APPS = Setting(
    "max_apps",
    "CODERD_MAX_APPS",
    _COUNT,
    str(limits.MAX_APPS_PER_USER),
    "The most web apps that one user may set.",
)
QUOTA_SETTINGS = (MAX_WORKSPACES, MAX_DEVICES, MAX_TOKENS, MAX_APPS)


def parse_quotas(sources: Sources) -> Quotas:
    """Returns the quotas out of all sources. Raises UserError, naming the setting."""
    return Quotas(
        workspaces=sources.get(MAX_WORKSPACES),
        devices=sources.get(MAX_DEVICES),
        tokens=sources.get(MAX_TOKENS),
        apps=sources.get(MAX_APPS),
    )
