"""What the pages of the server's own host may load, ask and send to: exact paths. Pure.

Path apps live on the same host, so ``'self'`` would name them too: a script of ``/@bob/dev/apps/8000/`` were
one of the dashboard's.
"""

from typing import Final

from coderd.config.url import ServerUrl

NO_FRAMES: Final = "frame-ancestors 'none'; base-uri 'none'"


def exact(url: ServerUrl, *paths: str) -> str:
    """Returns the policy's sources for exactly these paths of a server.

    A path must not end in a slash, which would stand for all below it. A host that is a bare IPv6 address
    cannot be named in a policy (CSP 3, 6.7.2.6), so that there it is ``'self'``.

    Raises ValueError for a path that would name more than itself.
    """
    if any(not path.startswith("/") or path.endswith("/") or set(path) & set(" ;,'?#") for path in paths):
        raise ValueError(f"no exact paths: {paths}")
    return "'self'" if ":" in url.host else " ".join(f"{url}{path}" for path in paths)
