"""What a server is told about how much one user may have."""

from typing import Final

from coderd.config.sources import Setting, Sources, Value, bad_value
from coderd.model import limits
from coderd.model.quotas import Quotas

MAX_WORKSPACES = Setting("max_workspaces", "CODERD_MAX_WORKSPACES", str(limits.MAX_WORKSPACES_PER_USER))
MAX_DEVICES = Setting("max_devices", "CODERD_MAX_DEVICES", str(limits.MAX_DEVICES_PER_USER))
MAX_TOKENS = Setting("max_tokens", "CODERD_MAX_TOKENS", str(limits.MAX_TOKENS_PER_USER))
MAX_APPS = Setting("max_apps", "CODERD_MAX_APPS", str(limits.MAX_APPS_PER_USER))
QUOTA_SETTINGS = (MAX_WORKSPACES, MAX_DEVICES, MAX_TOKENS, MAX_APPS)
_HIGHEST: Final = 1_000_000


def parse_quotas(sources: Sources) -> Quotas:
    """Raises UserError, naming the setting."""
    return Quotas(
        workspaces=_number(sources.get(MAX_WORKSPACES)),
        devices=_number(sources.get(MAX_DEVICES)),
        tokens=_number(sources.get(MAX_TOKENS)),
        apps=_number(sources.get(MAX_APPS)),
    )


def _number(value: Value) -> int:
    if not (
        value.text.isascii() and value.text.isdigit() and len(value.text) < 8 and int(value.text) <= _HIGHEST
    ):
        raise bad_value(value, f"it must be a whole number up to {_HIGHEST}")
    return int(value.text)
