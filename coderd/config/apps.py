"""What a server is told about web apps."""

import re
from dataclasses import dataclass
from typing import Final

from coderd.config.sources import Setting, Sources, Value, as_bool, bad_value

WILDCARD_ACCESS_URL = Setting("wildcard_access_url", "CODER_WILDCARD_ACCESS_URL")
DISABLE_PATH_APPS = Setting("disable_path_apps", "CODER_DISABLE_PATH_APPS", "false")
TRUST_PATH_APPS = Setting("dangerous_trust_path_apps", "CODERD_DANGEROUS_TRUST_PATH_APPS", "false")
APP_SETTINGS = (WILDCARD_ACCESS_URL, DISABLE_PATH_APPS, TRUST_PATH_APPS)

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SUFFIX: Final = re.compile(rf"(?:-{_LABEL}|\.{_LABEL})(?:\.{_LABEL})+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """Where web apps are found."""

    wildcard: str = ""
    """What the host of every app ends in, ``.apps.example.com`` say; empty where apps have no hosts of their own."""
    has_path_apps: bool = True
    """Whether they are found at paths of the access URL."""
    trusts_path_apps: bool = False
    """Whether they may do there what the server's own pages may: without a sandbox, and for a workspace's owner only."""

    @property
    def has_apps(self) -> bool:
        """Whether there is any way to them."""
        return self.has_path_apps or bool(self.wildcard)


def parse_app_options(sources: Sources) -> AppOptions:
    """Raises UserError, naming the setting."""
    return AppOptions(
        wildcard=_wildcard(sources.find(WILDCARD_ACCESS_URL)),
        has_path_apps=not as_bool(sources.get(DISABLE_PATH_APPS)),
        trusts_path_apps=as_bool(sources.get(TRUST_PATH_APPS)),
    )


def wildcard_suffix(text: str) -> str:
    """What follows the * of ``*.apps.example.com`` or ``*-apps.example.com``. Raises ValueError with the reason."""
    star, suffix = text[:1], text[1:].lower()
    if star != "*" or "*" in suffix:
        raise ValueError("it must begin with its one *")
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError("what follows the * must be a domain of at least two labels, without scheme or port")
    return suffix


def _wildcard(value: Value | None) -> str:
    if value is None:
        return ""
    try:
        return wildcard_suffix(value.text)
    except ValueError as error:
        raise bad_value(
            value, str(error), "Give it as in *.apps.example.com or *-apps.example.com."
        ) from None
