"""Handlers for health, the audit log, counters, reflection and the OpenAPI document."""

import time
from collections.abc import Callable

import msgspec

from coderd.api.io.routes import Call, Handler
from coderd.api.messages import (
    AuditEntry,
    AuditPage,
    AuditQuery,
    Health,
    Reflection,
    RelayClient,
    ServerCounters,
)
from coderd.api.openapi import build_openapi
from coderd.identity.io.audit import AuditRecord
from coderd.server.directory import Directory
from coderd.stun.io import ANSWERED_HERE


class WatchingHandlers:
    """Handlers for reads that concern the server as a whole.

    Args:
        directory: the identities and connected nodes.
        version: the program's version.
    """

    def __init__(self, directory: Directory, version: str) -> None:
        self._directory = directory
        self._version = version
        self._openapi = msgspec.json.encode(build_openapi(version))

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {
            "healthz": self._healthz,
            "openapi": self._document,
            "audit": self._audit,
            "openings": self._opened,
            "reflection": self._reflection,
            "counters": self._count,
        }

    async def _healthz(self, call: Call) -> Health:
        return Health(status="ok", version=self._version)

    async def _document(self, call: Call) -> bytes:
        return self._openapi

    async def _audit(self, call: Call) -> AuditPage:
        return await self._page(call, self._directory.store.audit.page)

    async def _opened(self, call: Call) -> AuditPage:
        return await self._page(call, self._directory.store.access_records.page)

    async def _page(self, call: Call, ask: Callable[..., list[AuditRecord]]) -> AuditPage:
        query = call.asked(AuditQuery)
        found = await self._directory.ask(lambda: ask(before=query.before, limit=query.limit))
        more = len(found) == query.limit and found[-1].number > 1
        entries = [AuditEntry(**each._asdict()) for each in found]
        return AuditPage(entries=entries, next=found[-1].number if more else None)

    async def _reflection(self, call: Call) -> Reflection:
        counters = self._directory.counters
        return Reflection(
            seen_from=call.caller.source,
            arrived_at=call.arrived_at,
            unix_time=time.time(),
            n_stun_answered=counters["stun.answered"] - counters[ANSWERED_HERE],
        )

    async def _count(self, call: Call) -> ServerCounters:
        clients = []
        for node_key, stats in self._directory.relay.stats().items():
            node = await self._directory.admit(node_key)
            clients.append(
                RelayClient(
                    node_key=node_key.text,
                    node=node.full_name if node is not None else "",
                    bytes_in=stats.bytes_in,
                    bytes_out=stats.bytes_out,
                    packets_in=stats.packets_in,
                    packets_out=stats.packets_out,
                )
            )
        counters = self._directory.counters
        return ServerCounters(
            counters=dict(counters),
            n_connections=self._directory.registry.n_connections(),
            relay=clients,
            relay_bytes=counters["derp.relay.bytes"],
            relay_packets=counters["derp.relay.packets"],
        )
