"""The server, assembled: one port for API, coordination and relay, and STUN beside it."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
import trio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp

from coderd import __version__
from coderd.api.io.routes import api_routes, error_handlers
from coderd.browser.io.sign_in import SignIn
from coderd.config.server import ServerConfig
from coderd.coordination.io.coordination_server import CoordinationServer
from coderd.coordination.message import MAX_NODE_MESSAGE
from coderd.coordination.message import PATH as COORDINATE
from coderd.coordination.registry import Registry
from coderd.dashboard.io.dashboard_site import DashboardSite
from coderd.derp.client_rate import ClientRate
from coderd.derp.io.meta_certificate import meta_certificate
from coderd.derp.io.server import RelayServer
from coderd.http.drain import Drain
from coderd.http.forwarded import TrustedProxies
from coderd.http.relay_routes import refuse_derp, relay_routes
from coderd.http.server import serve_http
from coderd.http.tls import ServerTls, fingerprint
from coderd.http.websocket import TextRoute
from coderd.identity.io.store import Store
from coderd.identity.people import Node
from coderd.metrics import Counters
from coderd.model.addresses import AddrPort, format_addr_port
from coderd.model.derpmap import DerpMap
from coderd.model.derpmap_json import derp_map_to_json
from coderd.model.keys import NodePublic
from coderd.process.turns import TurnWatch
from coderd.server.access_log import AccessLog
from coderd.server.browser_sessions import BrowserSessions
from coderd.server.derpmap import assemble, n_relays
from coderd.server.directory import Directory
from coderd.server.handlers.table import all_handlers
from coderd.server.health.checks import Checked
from coderd.server.health.report import Observation
from coderd.server.listen import open_listener
from coderd.server.map_source import MapSource
from coderd.server.ports import Ports, follow_reloads
from coderd.server.relay.verify import verify_routes
from coderd.server.reloads import Reloads
from coderd.server.state import StateDirectory
from coderd.server.store import open_store
from coderd.server.sweep import Sweep
from coderd.server.web_apps import WebApps
from coderd.server.web_terminals import WebTerminals
from coderd.stun.io import serve_stun

FIRST_ADMIN = "admin"
"""Name of the user that the first start creates."""
DRAIN_TIMEOUT = 5.0
"""Seconds for which requests in progress may finish at the end."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """Addresses of a server that has started."""

    http_address: AddrPort
    stun_addresses: tuple[AddrPort, ...]
    admin_token_file: Path | None
    """File with the first admin's token; None unless this start created the user."""
    pin: str = ""
    """SHA-256 of the certificate that the server made itself, in hexadecimal; empty if it shows none such."""


async def run_server(
    config: ServerConfig,
    *,
    stop: trio.Event | None = None,
    reloads: Reloads | None = None,
    task_status: trio.TaskStatus[Started] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until ``stop`` is set or it is cancelled; on ``stop`` tells every node to reconnect shortly.

    Args:
        config: the options; port 0 lets the kernel choose.
        stop: requests a clean end.
        reloads: requests that relay map and certificates be read again.
        task_status: started when every socket is bound and answers.

    Raises:
        UserError: the state directory, the database, the relay map or an address cannot be used.
    """
    with Ports(config.http_address, config.tls_address) as ports, StateDirectory(config.state_dir) as state:
        store = await trio.to_thread.run_sync(open_store, state.database, config.lifetimes, config.quotas)
        try:
            server = _Server(config, state, store)
            with server.turns:
                async with trio.open_nursery() as nursery:
                    addresses = await server.start(nursery, ports, reloads or Reloads())
                    is_first = await server.directory.change_in_thread(
                        lambda: store.users.create_first_owner(FIRST_ADMIN, state.write_admin_token)
                    )
                    task_status.started(
                        Started(*addresses, state.admin_token_file if is_first else None, server.pin)
                    )
                    await (trio.sleep_forever if stop is None else stop.wait)()
                    await server.drain()
                    nursery.cancel_scope.cancel()
        finally:
            store.close()
    log.info("server_stopped")


class _Server:
    """Parts of a server, connected with each other."""

    def __init__(self, config: ServerConfig, state: StateDirectory, store: Store) -> None:
        self._config = config
        self._counters = Counters()
        self.turns = TurnWatch(self._counters)
        self.relay = RelayServer(
            state.relay_key,
            self._admit,
            rng=os.urandom,
            counters=self._counters,
            client_rate=ClientRate.of(config.derp.client_rate),
        )
        registry = Registry(blocks_direct=config.derp.blocks_direct)
        self.directory = Directory(store, self._counters, registry, self.relay)
        self.coordination = CoordinationServer(
            directory=self.directory,
            private=state.coordination_key,
            relay_key=self.relay.public,
            rng=os.urandom,
            counters=self._counters,
            registry=registry,
            embedded_region=config.derp.region_id if config.derp.has_relay else 0,
        )
        self._tls, self.pin = _tls(config, state, self.relay)
        self._stun: tuple[AddrPort, ...] = ()
        self._maps = MapSource(config.derp, self._set_derp_map, counters=self._counters)
        self._access_log = AccessLog(self.directory)
        registry.path_reports.on_tunnel = self._access_log.note_tunnel
        self._sessions = BrowserSessions(self.directory)
        self._sign_in = SignIn(self._sessions, config.access_url, state.coordination_key.raw)
        self._web_apps = WebApps(
            config, self.directory, self._sessions, self._access_log, self.relay, state.coordination_key
        )
        terminals = WebTerminals(
            config, self.directory, self._sessions, self._access_log, lambda: self._web_apps.node
        )
        self._terminals = terminals.site(self._sign_in, state.coordination_key)
        self._drain = Drain()
        self._derp_map = DerpMap()
        self._observation = Observation(self._checked(), replace(config.access_url, pin=self.pin))

    async def start(
        self, nursery: trio.Nursery, ports: Ports, reloads: Reloads
    ) -> tuple[AddrPort, tuple[AddrPort, ...]]:
        """Starts every service in the nursery; returns the HTTP and STUN addresses as bound."""
        self._stun = await self._start_stun(nursery)
        await self._maps.load()
        nursery.start_soon(self._maps.follow, reloads)
        nursery.start_soon(self.coordination.run)
        nursery.start_soon(self._access_log.run)
        nursery.start_soon(Sweep(self.directory).run)
        nursery.start_soon(self._terminals.run)
        if self._tls is not None:
            nursery.start_soon(follow_reloads, self._tls, reloads)
        derp = self.relay.handle_upgrade if self._config.derp.has_relay else refuse_derp
        proxies = TrustedProxies(self._config.proxy_origins, self._config.proxy_headers)
        serve = partial(
            serve_http,
            derp=derp,
            websockets={COORDINATE: TextRoute(self.coordination.serve, MAX_NODE_MESSAGE)},
            counters=self._counters,
            proxies=proxies,
            drain=self._drain,
            is_apps_host=self._web_apps.is_apps_host,
        )
        app = await self._web_apps.start(nursery, self._sign_in, self._build_app())
        await nursery.start(serve, ports.listeners(self._tls), app)
        await self._start_metrics(nursery)
        nursery.start_soon(self._observation.checks.follow)
        log.info("server_started", http=format_addr_port(ports.address), n_stun=len(self._stun))
        return ports.address, self._stun

    async def drain(self) -> None:
        """Refuses new requests, tells every node when to reconnect, and waits for requests in progress."""
        self._observation.checks.is_draining = True
        self._drain.ask()
        await self.relay.announce_restart()
        await self.coordination.close()
        if not await self._drain.wait_idle(DRAIN_TIMEOUT):
            log.warning("requests_cut_off", after_seconds=DRAIN_TIMEOUT)

    async def _start_metrics(self, nursery: trio.Nursery) -> None:
        if self._config.prometheus_address is not None:
            listener = open_listener(self._config.prometheus_address)
            await nursery.start(
                partial(serve_http, derp=refuse_derp), [listener], self._observation.metrics_app()
            )

    def _checked(self) -> Checked:
        return Checked(
            config=self._config,
            version=__version__,
            directory=self.directory,
            maps=self._maps,
            tls=self._tls,
            stun=lambda: self._stun,
            n_relays=lambda: n_relays(self._derp_map),
            stalls=self.turns.recent,
            web_apps_problem=lambda: self._web_apps.problem,
        )

    async def _admit(self, node_key: NodePublic, source: str = "") -> Node | None:
        """Returns the node that relays may serve, one of the server's or the server's own; else None."""
        return self._web_apps.admits(node_key) or await self.directory.admit(node_key, source)

    def _set_derp_map(self, custom: DerpMap | None) -> None:
        """Merges the operator's map in and hands the result out.

        Raises MapClash, and then leaves the map in force.
        """
        self._derp_map = assemble(self._config.derp, self._config.access_url, self._stun, custom)
        self.coordination.set_derp_map(derp_map_to_json(self._derp_map))

    async def _start_stun(self, nursery: trio.Nursery) -> tuple[AddrPort, ...]:
        if not self._config.stun_addresses:
            return ()
        serve = partial(serve_stun, self._config.stun_addresses, counters=self._counters)
        bound: list[AddrPort] = await nursery.start(serve)
        return tuple(bound)

    def _build_app(self) -> ASGIApp:
        handlers = {
            **all_handlers(
                self.directory,
                version=__version__,
                wildcard=self._web_apps.wildcard,
                sharing=self._config.sharing,
            ),
            **self._observation.handlers(),
        }
        routes = [
            *(relay_routes() if self._config.derp.has_relay else ()),
            *verify_routes(self._admit, self._counters),
            *api_routes(self.directory.identify, handlers),
            *self._observation.routes(),
            *self._terminals.routes(),
            WebSocketRoute(COORDINATE, self.coordination.endpoint),
        ]
        app = Starlette(routes=routes, exception_handlers=error_handlers())
        app.router.redirect_slashes = False
        own = self._config.access_url  # with its pin or --insecure, which the shown commands need
        return DashboardSite(
            self._sessions,
            self._sign_in,
            handlers,
            access_url=replace(own, pin=self.pin, is_insecure=not own.may_carry_tokens),
            version=__version__,
            has_apps=lambda: self._config.apps.has_apps and self._web_apps.problem is None,
            is_read_only=self._config.apps.trusts_path_apps,
            rest=app,
        )


def _tls(config: ServerConfig, state: StateDirectory, relay: RelayServer) -> tuple[ServerTls | None, str]:
    """Returns the certificates to show, and the pin if the server made them itself, else empty.

    Raises UserError.
    """
    if config.tls is None:
        return None, ""
    options, pin = config.tls, ""
    if not options.certificates:
        own = state.own_certificate(config.access_url.host)
        options, pin = replace(options, certificates=(own,)), fingerprint(own.certificate)
    return ServerTls(options, appended=meta_certificate(relay.public) if config.derp.has_relay else b""), pin
