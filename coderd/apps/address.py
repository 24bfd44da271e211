"""Addresses of web apps. Pure.

    path form    http://coder.example.com/@alice/dev/apps/8080/index.html      app, then the path it sees
    host form    http://8080--dev--alice.apps.example.com/index.html           needs --wildcard-access-url

An app is named by its port, or by the name that it was given. Names that contain ``--`` have no host form,
nor have those with a label longer than DNS's 63 bytes (RFC 1035 §2.3.4).
"""

import re
from dataclasses import dataclass
from typing import Final

from coderd.config.apps import wildcard_suffix

MAX_LABEL: Final = 63
SEPARATOR: Final = "--"

_NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATH: Final = re.compile(rf"/@({_NAME})/({_NAME})/apps/({_NAME})(/.*)?", re.ASCII | re.DOTALL)
_APP: Final = re.compile(_NAME, re.ASCII)


@dataclass(frozen=True, slots=True)
class AppAddress:
    """Which app of which workspace."""

    owner: str
    workspace: str
    app: str
    """Its port in digits, or its slug."""

    @property
    def prefix(self) -> str:
        """Where it begins in the path form, without a slash at the end."""
        return f"/@{self.owner}/{self.workspace}/apps/{self.app}"

    @property
    def label(self) -> str | None:
        """The first part of its host, None where it can have none."""
        parts = (self.app, self.workspace, self.owner)
        label = SEPARATOR.join(parts)
        return None if len(label) > MAX_LABEL or any(SEPARATOR in part for part in parts) else label


def is_app_name(name: str) -> bool:
    """Returns whether text is a valid app name: a port, or a slug."""
    if name.isdigit():
        return port_of(name) is not None
    return _APP.fullmatch(name) is not None and SEPARATOR not in name


def port_of(name: str) -> int | None:
    """Returns the port that a name is, or None if it is a slug or invalid."""
    is_port = name.isascii() and name.isdigit() and name[0] != "0" and len(name) <= 5 and int(name) <= 65535
    return int(name) if is_port else None


def parse_path(path: str) -> tuple[AppAddress, str] | None:
    """Parses a request's path, as sent, into the app and the path inside it."""
    match = _PATH.fullmatch(path)
    if match is None or not is_app_name(match[3]):
        return None
    return AppAddress(match[1], match[2], match[3]), match[4] or ""


@dataclass(frozen=True, slots=True)
class Wildcard:
    """The hosts of apps: whatever ends in ``suffix``."""

    suffix: str
    """With its first character: ``.apps.example.com`` or ``-apps.example.com``."""

    @classmethod
    def parse(cls, text: str) -> "Wildcard":
        """Reads ``*.apps.example.com``. Raises ValueError with the reason."""
        return cls(wildcard_suffix(text))

    def host_of(self, address: AppAddress) -> str | None:
        """Returns an app's host, or None if its name is too long for one."""
        label = address.label
        if label is None or (
            self.suffix[0] == "-" and len(label + self.suffix.partition(".")[0]) > MAX_LABEL
        ):
            return None
        return label + self.suffix

    def covers(self, host: str) -> bool:
        """Returns whether a Host header names a host under this wildcard."""
        return _bare(host).endswith(self.suffix)

    def parse_host(self, host: str) -> AppAddress | None:
        """Returns the app that a Host header names."""
        bare = _bare(host)
        parts = bare.removesuffix(self.suffix).split(SEPARATOR)
        if not bare.endswith(self.suffix) or len(parts) != 3:
            return None
        app, workspace, owner = parts
        if not (is_app_name(app) and _APP.fullmatch(workspace) and _APP.fullmatch(owner)):
            return None
        address = AppAddress(owner, workspace, app)
        return address if self.host_of(address) == bare else None


def _bare(host: str) -> str:
    """Returns a host without port, in lower case."""
    return host.rpartition(":")[0].lower() if re.search(r":\d*$", host) else host.lower()
