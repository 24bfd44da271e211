"""Rules that turn the collected signs of a server's health into findings, each with a fix. Pure.

    EACS  the access URL        EWS   WebSockets through it     EDERP  relays         ESTUN  STUN
    ETLS  the certificate       EDB   the database              EMAP   the relay map  ECLK   clocks     EWEB  web apps
    ELOOP the event loop

Codes are those of Coder's health page where it has one for the condition; docs/server.md lists all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from coderd.api.health import HealthFinding, SeverityText
from coderd.model.addresses import AddrPort, format_addr_port
from coderd.process.stalls import NO_STALLS, Stalls

SLOW_DATABASE: Final = 0.5
"""Seconds that one query of the database may take without a finding."""
CERTIFICATE_MARGIN: Final = 21 * 86400.0
"""Seconds before a certificate expires from which on a warning is given: 21 days."""
LONG_STALL: Final = 1.0
"""Seconds of one stall of the event loop from which on a single one is a finding."""
MANY_STALLS: Final = 5
"""Stalls of any length in ten minutes from which on they are a finding."""
MAX_SKEW: Final = 60.0
"""Seconds by which two clocks may differ without a finding."""
_ORDER: Final[tuple[SeverityText, ...]] = ("error", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of one request through the access URL."""

    error: str = ""
    """Why the request failed, as a clause; empty: it succeeded."""
    middlebox: str = ""
    """Server and Via fields of an answer that is not this server's; empty without them."""

    @property
    def culprit(self) -> str:
        """The middlebox as a noun phrase for a sentence, "whatever is between" if it is unnamed."""
        return (
            f"the middlebox that calls itself {self.middlebox!r}"
            if self.middlebox
            else "whatever proxy is in between"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTrials:
    """Results of one check of the access URL; a request that was not made is None."""

    at: float
    """Wall-clock seconds at which the check was made."""
    http: Trial
    is_other: bool = False
    """Whether another process than this server answered."""
    websocket: Trial | None = None
    derp: Trial | None = None
    derp_websocket: Trial | None = None
    """DERP by WebSocket, requested only where the DERP upgrade failed."""
    skew: float | None = None
    """Seconds by which the clock of the host that answered is ahead of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Input of ``find``: everything that was measured of a server."""

    access_url: str
    access: AccessTrials | None = None
    """Last check of the access URL; None while the first one runs."""
    has_relay: bool = True
    """Whether the server itself relays."""
    n_relays: int = 1
    """Number of relays in the relay map, the server's own included."""
    stun: tuple[tuple[AddrPort, bool], ...] = ()
    """Addresses at which the server answers STUN, and whether each one answered."""
    blocks_direct: bool = False
    map_failure: str = ""
    """Why the operator's relay map cannot be used, as a clause; empty: it can, or there is none."""
    certificate_ends_at: float | None = None
    """Wall-clock seconds at which the first of the server's certificates expires; None without any."""
    certificate_begins_at: float | None = None
    """Wall-clock seconds from which on all of the server's certificates are valid."""
    database_seconds: float | None = None
    """Seconds that one query of the database took; None: it failed."""
    database_error: str = ""
    newest_record_at: float | None = None
    """Wall-clock seconds of the newest audit record."""
    stalls: Stalls = NO_STALLS
    """Stalls of the event loop in the last ten minutes."""
    web_apps_off: str = ""
    """Why the server cannot serve web apps, as a clause; empty: it can, or they are switched off."""
    web_apps_fix: str = ""
    """What to do about ``web_apps_off``, as a sentence."""


def find(signs: Signs, unix_now: float) -> tuple[HealthFinding, ...]:
    """Returns all findings, the worst first."""
    found = [
        *_about_access(signs),
        *_about_relays(signs),
        *_about_stun(signs),
        *_about_certificates(signs, unix_now),
        *_about_database(signs),
        *_about_clocks(signs, unix_now),
        *_about_loop(signs.stalls),
        *_about_web_apps(signs),
    ]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def worst(findings: tuple[HealthFinding, ...]) -> SeverityText:
    """Returns the worst severity among findings; ``ok`` without any."""
    return min((finding.severity for finding in findings), key=_ORDER.index, default="ok")


def _about_access(signs: Signs) -> Iterator[HealthFinding]:
    access, url = signs.access, signs.access_url
    if access is None:
        return
    if access.http.error:
        yield _error(
            "EACS03",
            f"The server cannot reach itself at its access URL {url}: {access.http.error}.",
            "See that the name resolves to this host or its proxy, that the port is open, and that --access-url is right.",
        )
    elif access.is_other:
        who = f" ({access.http.middlebox})" if access.http.middlebox else ""
        yield _error(
            "EACS04",
            f"At the access URL {url} another server answers{who}.",
            "Point the name, the proxy or --access-url at this server.",
        )
    if access.websocket is not None and access.websocket.error:
        yield _error(
            "EWS01",
            f"A WebSocket does not pass the access URL: {access.websocket.error}. No node can join.",
            f"Have {access.websocket.culprit} pass Upgrade and Connection on to the server; docs/proxies.md has the lines.",
        )


def _about_relays(signs: Signs) -> Iterator[HealthFinding]:
    if signs.access is not None and signs.access.derp is not None and signs.access.derp.error:
        yield _about_upgrade(signs.access.derp, signs.access.derp_websocket)
    if not signs.n_relays:
        yield _error(
            "EDERP04",
            "The relay map has no relay: nodes that find no direct path cannot reach each other.",
            "Start with --derp-server-enable, or name relays with --derp-config-path.",
        )
    if signs.map_failure:
        yield _warning(
            "EMAP01",
            f"The operator's relay map cannot be used: {signs.map_failure}. The last good one stays in force.",
            "Correct the file or URL; coderctl derp-map --file FILE --check tests a file.",
        )


def _about_upgrade(derp: Trial, websocket: Trial | None) -> HealthFinding:
    if websocket is not None and not websocket.error:
        return _warning(
            "EDERP01",
            f"Upgrade: DERP does not pass the access URL: {derp.error}. Relaying goes by WebSocket, which is slower.",
            f"Have {derp.culprit} pass any Upgrade on, not WebSocket alone; docs/proxies.md has the lines.",
        )
    return _error(
        "EDERP03",
        f"Neither Upgrade: DERP nor a WebSocket reaches the relay through the access URL: {derp.error}. Nothing is relayed.",
        f"Have {derp.culprit} pass Upgrade and Connection on to the server; docs/proxies.md has the lines.",
    )


def _about_stun(signs: Signs) -> Iterator[HealthFinding]:
    silent = [format_addr_port(address) for address, has_answered in signs.stun if not has_answered]
    if silent:
        yield _warning(
            "ESTUN01",
            f"STUN is not answered at UDP {', '.join(silent)}: nodes behind NAT may not find their own address.",
            "See that a firewall on this host lets UDP in at these ports.",
        )
    elif not signs.stun and not signs.blocks_direct:
        yield _warning(
            "ESTUN01",
            "This server answers no STUN: without other STUN servers in the map few nodes find a direct path.",
            "Leave --stun-address at its default, or name others with --derp-server-stun-addresses.",
        )


def _about_certificates(signs: Signs, unix_now: float) -> Iterator[HealthFinding]:
    ends_at, begins_at = signs.certificate_ends_at, signs.certificate_begins_at
    if ends_at is not None and ends_at <= unix_now:
        yield _error(
            "ETLS02",
            f"The server's certificate expired {_days(unix_now - ends_at)} ago: clients that verify it refuse it.",
            "Replace it, and reload the server (SIGHUP).",
        )
    elif ends_at is not None and ends_at - unix_now < CERTIFICATE_MARGIN:
        yield _warning(
            "ETLS01",
            f"The server's certificate expires in {_days(ends_at - unix_now)}.",
            "Find out why it was not renewed; after renewal reload the server (SIGHUP).",
        )
    if begins_at is not None and begins_at > unix_now:
        yield _error(
            "ETLS03",
            f"The server's certificate becomes valid only in {_days(begins_at - unix_now)}: its clock or ours is wrong.",
            "See that this host's clock is right.",
        )


def _about_database(signs: Signs) -> Iterator[HealthFinding]:
    if signs.database_seconds is None:
        yield _error(
            "EDB01",
            f"The database does not answer: {signs.database_error or 'no answer in time'}. No node can join.",
            "See whether the disk is full or read-only; then restart the server, or restore a backup.",
        )
    elif signs.database_seconds > SLOW_DATABASE:
        yield _warning(
            "EDB02",
            f"The database took {signs.database_seconds:.1f} s for one query.",
            "See what else uses the disk of the state directory; it should be local.",
        )


def _about_clocks(signs: Signs, unix_now: float) -> Iterator[HealthFinding]:
    skew = signs.access.skew if signs.access is not None else None
    if skew is not None and abs(skew) > MAX_SKEW:
        yield _warning(
            "ECLK01",
            f"The clock of the host that answers at the access URL is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours.",
            "Have both hosts keep time (timedatectl set-ntp true).",
        )
    if signs.newest_record_at is not None and signs.newest_record_at - unix_now > MAX_SKEW:
        yield _warning(
            "ECLK02",
            f"The newest audit record is {_days(signs.newest_record_at - unix_now)} in the future: this host's clock was set back.",
            "See that this host's clock is right: tokens expire by it.",
        )


def _about_loop(stalls: Stalls) -> Iterator[HealthFinding]:
    if stalls.longest >= LONG_STALL or stalls.count >= MANY_STALLS:
        times = "once" if stalls.count == 1 else f"{stalls.count} times"
        yield _warning(
            "ELOOP01",
            f"The server stalled {times} in the last ten minutes, for {stalls.longest:.1f} s at the longest:"
            " it answered no request meanwhile.",
            "See that this host has CPU time to spare, and what the log says at the time of each loop_stalled.",
        )


def _about_web_apps(signs: Signs) -> Iterator[HealthFinding]:
    if signs.web_apps_off:
        yield _warning(
            "EWEB01",
            f"Web apps and terminals are off: {signs.web_apps_off}.",
            f"{signs.web_apps_fix} Meanwhile use coderctl port-forward and coderctl terminal.".lstrip(),
        )


def _days(seconds: float) -> str:
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days"
    return f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"


def _error(code: str, message: str, fix: str) -> HealthFinding:
    return HealthFinding(code=code, severity="error", message=message, fix=fix)


def _warning(code: str, message: str, fix: str) -> HealthFinding:
    return HealthFinding(code=code, severity="warning", message=message, fix=fix)
