"""The settings of ``coderd server`` about web apps."""

import re
from dataclasses import dataclass
from typing import Final

from coderd.config.kinds import SWITCH
from coderd.config.sources import Kind, Setting, Sources, Value, bad_value
from coderd.model.dns_label import LABEL

_SUFFIX: Final = re.compile(rf"(?:-{LABEL}|\.{LABEL})(?:\.{LABEL})+", re.ASCII)


def wildcard_suffix(text: str) -> str:
    """Returns what follows the * of ``*.apps.example.com`` or ``*-apps.example.com``, in lower case.

    Raises:
        ValueError: with the reason, where the text is anything else.
    """
    star, suffix = text[:1], text[1:].lower()
    if star != "*" or "*" in suffix:
        raise ValueError("it must begin with its one *")
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError("what follows the * must be a domain of at least two labels, without scheme or port")
    return suffix


def _wildcard(value: Value) -> str:
    try:
        return wildcard_suffix(value.text)
    except ValueError as error:
        raise bad_value(
            value, str(error), "Give it as in *.apps.example.com or *-apps.example.com."
        ) from None


WILDCARD_ACCESS_URL = Setting(
    "wildcard_access_url",
    "CODER_WILDCARD_ACCESS_URL",
    Kind("*.DOMAIN", _wildcard),
    help="Give web apps hosts of their own, as in *.apps.example.com.",
)
DISABLE_PATH_APPS = Setting(
    "disable_path_apps",
    "CODER_DISABLE_PATH_APPS",
    SWITCH,
    "false",
    "Serve no web apps at paths of the access URL.",
)
TRUST_PATH_APPS = Setting(
    "dangerous_trust_path_apps",
    "CODERD_DANGEROUS_TRUST_PATH_APPS",
    SWITCH,
    "false",
    "Let web apps at paths of the access URL act as the server's own pages in their visitor's browser.",
)
APP_SETTINGS = (WILDCARD_ACCESS_URL, DISABLE_PATH_APPS, TRUST_PATH_APPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """Where the server serves web apps."""

    wildcard: str = ""
    """The end of every app's host, ``.apps.example.com`` say; empty where apps have no hosts of their own."""
    has_path_apps: bool = True
    """Whether apps are served at paths of the access URL."""
    trusts_path_apps: bool = False
    """Whether apps at paths may do what the server's own pages may.

    They then run without a sandbox, for a workspace's owner only.
    """

    @property
    def has_apps(self) -> bool:
        """Tells whether apps are served at all."""
        return self.has_path_apps or bool(self.wildcard)


def parse_app_options(sources: Sources) -> AppOptions:
    """Returns the options out of all sources. Raises UserError, naming the setting."""
    return AppOptions(
        wildcard=sources.given(WILDCARD_ACCESS_URL) or "",
        has_path_apps=not sources.get(DISABLE_PATH_APPS),
        trusts_path_apps=sources.get(TRUST_PATH_APPS),
    )
