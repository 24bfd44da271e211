"""Health report, readiness and metrics of a running server, assembled."""

import os
import time
from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute

from coderd.api.health import HealthReport
from coderd.api.io.routes import ApiError, Call, Handler, bearer_of, source_of
from coderd.api.rules import MANAGERS
from coderd.config.url import ServerUrl
from coderd.coordination.registry import Registry
from coderd.model.netmap import NodeKind
from coderd.model.roles import Scope
from coderd.server.handlers.paths import PathHandlers
from coderd.server.health.access_check import AccessCheck
from coderd.server.health.checks import Checked, HealthChecks
from coderd.server.health.exposition import Census, Figures, exposition
from coderd.server.health.routes import Observed

_INSTANCE_SIZE = 16


class Observation:
    """What one server shows of itself: health, readiness and metrics.

    Args:
        checked: the parts that are examined.
        url: the access URL, with its pin if the server made the certificate itself.
    """

    def __init__(self, checked: Checked, url: ServerUrl) -> None:
        instance = os.urandom(_INSTANCE_SIZE).hex()
        has_relay = checked.config.derp.has_relay
        self._checked = checked
        self.checks = HealthChecks(
            checked, AccessCheck(url, instance, has_relay=has_relay, unix_clock=time.time)
        )
        self._observed = Observed(
            instance=instance,
            version=checked.version,
            why_not_ready=self.checks.why_not_ready,
            metrics=lambda: exposition(self._figures()),
            may_look=self._may_look,
        )

    def routes(self) -> list[BaseRoute]:
        """Returns the routes for the server's public port."""
        return self._observed.routes()

    def metrics_app(self) -> Starlette:
        """Returns the app for ``--prometheus-address``."""
        return self._observed.metrics_app()

    def handlers(self) -> dict[str, Handler]:
        """Returns the API's handlers for health, paths and relays, by operation."""
        derp = self._checked.config.derp
        paths = PathHandlers(self._checked.directory, derp.region_id if derp.has_relay else 0)
        return {"health": self._health, **paths.handlers()}

    async def _health(self, call: Call) -> HealthReport:
        return await self.checks.report()

    async def _may_look(self, request: Request) -> bool:
        """Returns whether the bearer of a request manages the server, with a token of scope all or read."""
        token = bearer_of(request)
        if not token:
            return False
        try:
            caller = await self._checked.directory.identify(token, source_of(request))
        except ApiError:
            return False
        return caller.role in MANAGERS and caller.scope in (Scope.ALL, Scope.READ)

    def _figures(self) -> Figures:
        directory, derp = self._checked.directory, self._checked.config.derp
        return Figures(
            version=self._checked.version,
            counters=dict(directory.counters),
            census=census(directory.registry),
            region=derp.region_code if derp.has_relay else "",
            n_relay_clients=len(directory.relay.stats()),
            relay_queue=directory.relay.queued(),
            tally=directory.registry.path_reports.tally,
            findings=self.checks.counts(),
        )


def census(registry: Registry) -> Census:
    """Counts connected nodes, tunnels and reported paths, without the server's own node."""
    online: Counter[str] = Counter(device=0, workspace=0)
    paths: Counter[str] = Counter(direct=0, relay=0, none=0)
    n_tunnels = n_owed = 0
    for connection in registry.connections():
        kind = connection.node.kind
        if kind is NodeKind.SERVER:
            continue
        online[kind.value] += 1
        n_owed += connection.n_owed
        if kind is NodeKind.DEVICE:
            n_tunnels += connection.n_told
            paths.update(connection.reported_paths())
    return Census(online=online, n_tunnels=n_tunnels, n_owed=n_owed, paths=paths)
