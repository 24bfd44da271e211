"""The server's URL: what a node or a person types, reduced to an origin."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from coderd.model.errors import Exit, UserError

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """An origin: scheme, host (an IPv6 literal without brackets, lower case) and port."""

    scheme: str
    host: str
    port: int

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted by TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """``host`` or ``host:port``, as in a Host header: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_server_url(text: str) -> ServerUrl:
    """Reads an access URL. Raises UserError with what is wrong: never with a password that it may contain."""
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
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _refusal("it must end after the host and port")
    if port == 0:
        raise _refusal("its port must lie between 1 and 65535")
    return ServerUrl(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])


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
