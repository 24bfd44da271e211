"""The server's URL, reduced to an origin, and what that origin is trusted by.

The trust travels with the URL, behind the origin, in files, sockets and arguments alike.

``https://coder.example.com``                     a certificate that the system's authorities signed
``https://192.0.2.10:3000#sha256:<64 hex>``       the one certificate with this SHA-256, the *pin*
``https://192.0.2.10:3000#ca:/etc/coderd/ca.pem`` only the authorities in this file
``http://192.0.2.10:3000#insecure``               unencrypted, which a user has accepted for tokens
"""

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address
from urllib.parse import quote, unquote, urlsplit

from coderd.model.errors import Exit, UserError

PIN_PREFIX = "sha256:"
CA_PREFIX = "ca:"
INSECURE = "insecure"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PIN = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """An origin: scheme, host (an IPv6 literal without brackets, lower case) and port.

    As a string it is that alone.
    """

    scheme: str
    host: str
    port: int
    pin: str = ""
    """The SHA-256 of the server's certificate, in hexadecimal; empty where authorities are trusted."""
    ca_file: str = ""
    """An absolute path: PEM certificates of the only trusted authorities; empty for the system's."""
    is_insecure: bool = False
    """Whether tokens may go there unencrypted."""

    @property
    def is_tls(self) -> bool:
        """Tells whether the connection is encrypted by TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Returns ``host`` or ``host:port``, as in a Host header: the scheme's default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def trust(self) -> str:
        """Returns the fragment that says what the origin is trusted by; empty for the default."""
        if self.pin:
            return PIN_PREFIX + self.pin
        if self.ca_file:
            return CA_PREFIX + quote(self.ca_file)
        return INSECURE if self.is_insecure else ""

    @property
    def text(self) -> str:
        """Returns the URL with its trust, as it is stored and passed on."""
        return f"{self}#{self.trust}" if self.trust else str(self)

    @property
    def may_carry_tokens(self) -> bool:
        """Tells whether tokens may be sent: by TLS, within this machine, or where plain HTTP was accepted."""
        return self.is_tls or self.is_insecure or self.is_this_machine

    @property
    def is_this_machine(self) -> bool:
        """Tells whether the host is a loopback address or name, as in tests."""
        return _is_loopback(self.host)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def trusted_url(
    text: str, *, pin: str | None = None, ca_file: str | None = None, insecure: bool = False
) -> ServerUrl:
    """Parses a server's URL; trust that is given beside it replaces the URL's own. Raises UserError."""
    url = parse_server_url(text)
    if pin is not None and ca_file is not None:
        raise _no_trust(
            "a pin and a file of authorities are both given", "One of them is enough: keep --pin."
        )
    if pin is not None:
        return _with_pin(url, pin)
    if ca_file is not None:
        return _with_ca_file(url, ca_file)
    return replace(url, is_insecure=True) if insecure and not url.is_tls else url


def check_secrecy(url: ServerUrl) -> None:
    """Raises UserError if a token sent to this server could be read on the network path."""
    if not url.may_carry_tokens:
        raise UserError(
            f"{url} is not encrypted: everyone on the network path could read the token",
            exit_code=Exit.REFUSED,
            hint="Nothing was sent. Give the server's https URL, with the --pin that it prints; or accept it by --insecure.",
            code="not_encrypted",
        )


def parse_server_url(text: str) -> ServerUrl:
    """Parses a server's URL, with or without trust.

    Raises UserError with the reason, without a password in it.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refusal("it is not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise _refusal("it must start with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise _refusal("it must not carry a user name or password")
    if not host or any(character.isspace() or character in "<>\"'\\" for character in host):
        raise _refusal("it has no host")
    if not _can_be_looked_up(host):
        raise _refusal("its host is not a valid name")
    if parts.path not in ("", "/") or parts.query:
        raise _refusal("it must end after the host and port")
    if port == 0:
        raise _refusal("its port must be between 1 and 65535")
    url = ServerUrl(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])
    return with_trust(url, parts.fragment)


def with_trust(url: ServerUrl, text: str) -> ServerUrl:
    """Returns the URL with the trust that a fragment says. Raises UserError if it is invalid."""
    if not text:
        return url
    if text == INSECURE:
        return replace(url, is_insecure=not url.is_tls)
    if text.startswith(CA_PREFIX):
        return _with_ca_file(url, unquote(text.removeprefix(CA_PREFIX)))
    return _with_pin(url, text)


def _with_ca_file(url: ServerUrl, path: str) -> ServerUrl:
    """Returns the URL with a file of authorities.

    Its path must be absolute, as command and daemon differ in directory.
    """
    if not path.startswith("/") or "\0" in path:
        raise _no_trust(
            "the path of the file of authorities is not absolute",
            "Give it as in --ca-file /etc/coderd/ca.pem.",
        )
    if not url.is_tls:
        raise _no_trust(
            f"{url} is plain HTTP and has no certificate to verify", "Give the server's https URL."
        )
    return replace(url, pin="", ca_file=path)


def _with_pin(url: ServerUrl, text: str) -> ServerUrl:
    """Returns the URL with a pin.

    Its digits may be grouped by colons and of any case, as openssl prints them.
    """
    digits = text.strip().lower().removeprefix(PIN_PREFIX).replace(":", "")
    if not _PIN.fullmatch(digits):
        raise UserError(
            "the pin is invalid: it is not the SHA-256 of a certificate",
            exit_code=Exit.USAGE,
            hint=f"Give it as the server prints it: {PIN_PREFIX} and 64 hexadecimal digits.",
            code="bad_pin",
        )
    if not url.is_tls:
        raise UserError(
            f"{url} is plain HTTP and has no certificate to pin",
            exit_code=Exit.USAGE,
            hint="Give the server's https URL.",
            code="bad_pin",
        )
    return replace(url, pin=digits, ca_file="")


def _no_trust(why: str, hint: str) -> UserError:
    return UserError(why, exit_code=Exit.USAGE, hint=hint, code="bad_trust")


def _is_loopback(host: str) -> bool:
    """Tells whether a host is a loopback address or a name under localhost (RFC 6761 §6.3)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _can_be_looked_up(host: str) -> bool:
    """Tells whether every label has 1 to 63 octets (RFC 1035 §2.3.4)."""
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
