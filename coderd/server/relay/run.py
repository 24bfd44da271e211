"""Standalone relay and STUN responder (``coderd derp``), for regions far from the server.

Its state directory holds its key, so that clients meet the same relay after a restart, and the certificate if
it made one.
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec
import structlog
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from coderd.config.relay import RelayConfig
from coderd.derp.dial_plan import PIN_PREFIX
from coderd.derp.io.meta_certificate import meta_certificate
from coderd.derp.io.server import Admit, RelayServer
from coderd.http.relay_routes import relay_routes
from coderd.http.server import serve_http
from coderd.http.tls import ServerTls, fingerprint
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort, format_addr_port
from coderd.model.derpmap import DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json
from coderd.model.errors import UserError
from coderd.model.keys import ServerPrivate
from coderd.process.private_directory import PrivateDirectory
from coderd.process.turns import TurnWatch
from coderd.server.own_certificate import own_certificate
from coderd.server.ports import Ports, follow_reloads
from coderd.server.relay.verifier import Verifier, admit_anybody
from coderd.server.reloads import Reloads
from coderd.stun.io import serve_stun

KEY_FILE: Final = "derper.key"
"""Name of the file with the relay's private key."""
NO_STUN: Final = -1
_LOOPBACK: Final = ("127.0.0.1", "::1")

log = structlog.get_logger(__name__)


class _KeyFile(msgspec.Struct, frozen=True):
    """Content of the key file, in the format of Tailscale's ``derper``."""

    PrivateKey: str

    def __repr__(self) -> str:
        return "<_KeyFile redacted>"


@dataclass(frozen=True, slots=True)
class RelayStarted:
    """Addresses of a relay that has started, and its region of a DERP map."""

    address: AddrPort
    stun_addresses: tuple[AddrPort, ...]
    region: dict[str, object]


async def run_relay(
    config: RelayConfig,
    *,
    stop: trio.Event | None = None,
    reloads: Reloads | None = None,
    task_status: trio.TaskStatus[RelayStarted] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Relays until ``stop`` is set or it is cancelled; on ``stop`` tells the clients to reconnect shortly.

    Args:
        config: the options; port 0 lets the kernel choose.
        stop: requests a clean end.
        reloads: requests that the certificates be read again.
        task_status: started when every socket is bound and answers.

    Raises:
        UserError: the state directory, a certificate or an address cannot be used.
    """
    counters = Counters()
    with (
        TurnWatch(counters),
        Ports(config.http_address, config.tls_address) as ports,
        PrivateDirectory(config.state_dir) as directory,
    ):
        key = _load_key(directory)
        tls, pin = _tls(config, directory, key)
        verifier = Verifier(config.verify_url, counters) if config.verify_url else None
        admit: Admit = verifier.admit if verifier is not None else admit_anybody
        relay = RelayServer(key, admit, rng=os.urandom, counters=counters)
        try:
            async with trio.open_nursery() as nursery:
                stun = await _start_stun(nursery, config, counters)
                if tls is not None:
                    nursery.start_soon(follow_reloads, tls, reloads or Reloads())
                app = Starlette(routes=[*relay_routes(), *_own_routes(relay, counters)])
                app.router.redirect_slashes = False
                serve = partial(serve_http, derp=relay.handle_upgrade, counters=counters)
                await nursery.start(serve, ports.listeners(tls), app)
                log.info("relay_started", address=format_addr_port(ports.address), n_stun=len(stun))
                task_status.started(RelayStarted(ports.address, stun, region_of(config, stun, pin)))
                await (trio.sleep_forever if stop is None else stop.wait)()
                await relay.announce_restart()
                nursery.cancel_scope.cancel()
        finally:
            if verifier is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await verifier.aclose()
    log.info("relay_stopped")


def region_of(config: RelayConfig, stun: tuple[AddrPort, ...], pin: str) -> dict[str, object]:
    """Returns this relay as the one region of a DERP map, in JSON.

    Args:
        config: the relay's options.
        stun: the addresses at which it answers STUN.
        pin: the SHA-256 of a certificate that the relay made itself; empty for one of a certificate
            authority.
    """
    url = config.access_url
    node = DerpNode(
        name=f"{config.region_id}a",
        region_id=config.region_id,
        host_name=url.host,
        cert_name=PIN_PREFIX + pin if pin else "",
        derp_port=url.port,
        stun_port=stun[0][1] if stun else NO_STUN,
        force_http=not url.is_tls,
    )
    region = DerpRegion(config.region_id, config.region_code, config.region_code, (node,))
    return derp_map_to_json(DerpMap({config.region_id: region}))


def _load_key(directory: PrivateDirectory) -> ServerPrivate:
    """Reads the relay's key, or makes one. Raises UserError if the file is damaged."""
    try:
        data = directory.read(KEY_FILE)
    except FileNotFoundError:
        key = ServerPrivate.generate(os.urandom)
        directory.write(KEY_FILE, msgspec.json.encode(_KeyFile(key.secret_text())))
        return key
    try:
        return ServerPrivate.parse(msgspec.json.decode(data, type=_KeyFile).PrivateKey)
    except ValueError:
        raise UserError(
            f"{directory.path(KEY_FILE)} is damaged",
            hint="Restore it from a backup, or remove it: the relay then makes itself a new key.",
            code="state_damaged",
        ) from None


def _tls(
    config: RelayConfig, directory: PrivateDirectory, key: ServerPrivate
) -> tuple[ServerTls | None, str]:
    """Returns the certificates to show, and the SHA-256 of one that the relay made itself, else empty."""
    if config.tls is None:
        return None, ""
    options, pin = config.tls, ""
    if not options.certificates:
        own = own_certificate(directory, config.access_url.host)
        options, pin = replace(options, certificates=(own,)), fingerprint(own.certificate)
    return ServerTls(options, appended=meta_certificate(key.public())), pin


async def _start_stun(nursery: trio.Nursery, config: RelayConfig, counters: Counters) -> tuple[AddrPort, ...]:
    if not config.stun_addresses:
        return ()
    bound: list[AddrPort] = await nursery.start(partial(serve_stun, config.stun_addresses, counters=counters))
    return tuple(bound)


def _own_routes(relay: RelayServer, counters: Counters) -> list[BaseRoute]:
    """Returns /healthz for everyone, and /debug/counters for clients on this machine."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def show(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK:
            return Response(status_code=404)
        return JSONResponse({"counters": dict(counters), "n_clients": len(relay.stats())})

    return [Route("/healthz", healthz), Route("/debug/counters", show)]
