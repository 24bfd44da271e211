"""A setting that names a page of another server: any http or https URL, with its path."""

from urllib.parse import urlsplit

from coderd.config.derp_map import is_host_name
from coderd.config.sources import Value, bad_value

_SCHEMES = ("http", "https")


def http_url(value: Value, hint: str) -> str:
    """Returns the URL. Raises UserError if it is invalid, without a password that it may contain.

    Args:
        value: the setting's.
        hint: what to give instead of an invalid URL.
    """
    try:
        parts = urlsplit(value.text)
        is_usable = parts.scheme in _SCHEMES and is_host_name(parts.hostname or "") and parts.port != 0
        has_secret = parts.username is not None or parts.password is not None
    except ValueError:
        is_usable = has_secret = False
    if has_secret:
        raise bad_value(Value("…", value.origin), "it must not carry a user name or password")
    if not is_usable:
        raise bad_value(value, "it is not an http or https URL", hint)
    return value.text
