"""Content Security Policy Level 3, as far as our pages use it.

Whether a policy lets a page load, ask or send to a URL.
"""

from urllib.parse import unquote, urlsplit


def allows(policy: str, directive: str, url: str, own_origin: str) -> bool:
    """Section 6.7.2: whether a directive's sources match a URL; ``'self'`` is all of the page's origin."""
    directives = {words[0]: words[1:] for words in map(str.split, policy.split(";")) if words}
    sources = directives.get(directive, directives["default-src"])
    return any(_matches(source, url, own_origin) for source in sources)


def _matches(source: str, url: str, own_origin: str) -> bool:
    wanted = urlsplit(url)
    if source == "'self'":
        return f"{wanted.scheme.replace('ws', 'http')}://{wanted.netloc}" == own_origin
    if source.startswith("'"):  # none, nonces, hashes: no URL
        return False
    if source.endswith(":"):
        return wanted.scheme == source[:-1]
    named = urlsplit(source)
    if (named.scheme, named.netloc) != (wanted.scheme, wanted.netloc):
        return False
    path = unquote(wanted.path)
    return path.startswith(named.path) if named.path.endswith("/") else path == named.path or not named.path
