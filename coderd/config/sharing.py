"""What a server is told about sharing workspaces."""

from dataclasses import dataclass
from typing import Final

from coderd.config.sources import Setting, Sources, Value, as_bool, bad_value
from coderd.model import limits

ACCEPT_SHARES = Setting("accept_shares", "CODERD_ACCEPT_SHARES", "false")
MAX_SHARES = Setting("max_shares", "CODERD_MAX_SHARES", str(limits.MAX_SHARES_GIVEN))
SHARING_SETTINGS = (ACCEPT_SHARES, MAX_SHARES)
_HIGHEST: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingOptions:
    """How users may share."""

    accepts: bool = False
    """Whether whom something is offered to has accepted it by that."""
    max_given: int = limits.MAX_SHARES_GIVEN
    """Shares and offers that one user may have given."""


def parse_sharing_options(sources: Sources) -> SharingOptions:
    """Raises UserError, naming the setting."""
    return SharingOptions(
        accepts=as_bool(sources.get(ACCEPT_SHARES)), max_given=_number(sources.get(MAX_SHARES))
    )


def _number(value: Value) -> int:
    if not (value.text.isascii() and value.text.isdigit() and int(value.text) <= _HIGHEST):
        raise bad_value(value, f"it must be a whole number up to {_HIGHEST}")
    return int(value.text)
