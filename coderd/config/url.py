"""The server's URL: what a node or a person types, reduced to an origin, and the certificate that is to be found there.

Whoever is given a server's URL is given the trust in it, too: a pin travels behind the origin, as in
``https://192.0.2.10:3000#sha256:<64 hex>``, through files, sockets and arguments alike.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from coderd.model.errors import Exit, UserError

PIN_PREFIX = "sha256:"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PIN = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """An origin: scheme, host (an IPv6 literal without brackets, lower case) and port; as a string it has no pin."""

    scheme: str
    host: str
    port: int
    pin: str = ""
    """The SHA-256 of the server's certificate, in hexadecimal; empty where authorities vouch for it."""

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted by TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """``host`` or ``host:port``, as in a Host header: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The whole of it, pin included, as it is stored and handed on."""
        return f"{self}#{PIN_PREFIX}{self.pin}" if self.pin else str(self)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_pinned_url(text: str, pin: str | None) -> ServerUrl:
    """Reads a server's URL and a pin that was given beside it, if any: it replaces the URL's own. Raises UserError."""
    url = parse_server_url(text)
    return url if pin is None else _with_pin(url, pin)


def parse_server_url(text: str) -> ServerUrl:
    """Reads a server's URL, with or without a pin. Raises UserError with what is wrong: never with a password in it."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refusal("it cannot be read") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise _refusal("it must start with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise _refusal("it must not carry a user name or password")
    if not host or any(character.isspace() or character in "<>\"'\\" for character in host):
        raise _refusal("it names no host")
    if not _can_be_looked_up(host):
        raise _refusal("its host is no name that can be looked up")
    if parts.path not in ("", "/") or parts.query:
        raise _refusal("it must end after the host and port")
    if port == 0:
        raise _refusal("its port must lie between 1 and 65535")
    url = ServerUrl(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])
    return _with_pin(url, parts.fragment) if parts.fragment else url


def _with_pin(url: ServerUrl, text: str) -> ServerUrl:
    """Digits may be grouped by colons and of any case, as openssl prints them."""
    digits = text.strip().lower().removeprefix(PIN_PREFIX).replace(":", "")
    if not _PIN.fullmatch(digits):
        raise UserError(
            "the pin cannot be used: it is no SHA-256 of a certificate",
            exit_code=Exit.USAGE,
            hint=f"Give it as the server prints it: {PIN_PREFIX} and 64 hexadecimal digits.",
            code="bad_pin",
        )
    if not url.is_tls:
        raise UserError(
            f"{url} shows no certificate that could be pinned",
            exit_code=Exit.USAGE,
            hint="Give the server's https URL.",
            code="bad_pin",
        )
    return replace(url, pin=digits)


def _can_be_looked_up(host: str) -> bool:
    """Whether every label has 1 to 63 octets, as the resolver will demand."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _refusal(why: str) -> UserError:
    return UserError(
        f"the server's URL cannot be used: {why}",
        exit_code=Exit.USAGE,
        hint="Give it as in http://192.0.2.10:3000 or https://coder.example.com.",
        code="bad_url",
    )
