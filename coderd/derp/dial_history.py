"""What dialling has taught about relays: which node did not answer, and which is reached by WebSocket alone. Pure.

Whoever dials a region again does not pay for the same lesson twice: nodes that failed lately come last, and where only a
WebSocket gets through, the upgrade is not tried again for some minutes.
"""

from collections.abc import Sequence
from typing import Final

from coderd.derp.dial_plan import DialPlan
from coderd.model.derpmap import DerpNode

FAILURE_LIFETIME: Final = 120.0
"""Seconds for which a node that failed comes after the others of its region."""
DETOUR_LIFETIME: Final = 600.0
"""Seconds for which the upgrade is not tried where a WebSocket was needed."""


class DialHistory:
    """One node's experience with relays. Owned by whoever keeps the links."""

    def __init__(self) -> None:
        self._failed_at: dict[DerpNode, float] = {}
        self._detours: dict[DerpNode, tuple[float, str]] = {}

    def note_failed(self, node: DerpNode, now: float) -> None:
        """A node could not be reached, or fell silent."""
        self._failed_at = {
            other: at for other, at in self._failed_at.items() if now - at < FAILURE_LIFETIME
        } | {node: now}

    def note_reached(self, node: DerpNode) -> None:
        """A node answers."""
        self._failed_at.pop(node, None)

    def note_detour(self, node: DerpNode, why: str, now: float) -> None:
        """A node admitted us by WebSocket after its upgrade had failed, for this reason."""
        self._detours = {
            other: (at, reason) for other, (at, reason) in self._detours.items() if now - at < DETOUR_LIFETIME
        } | {node: (now, why)}

    def forget(self) -> None:
        """The network is another now."""
        self._failed_at.clear()
        self._detours.clear()

    def detour(self, node: DerpNode, now: float) -> str:
        """Why a node is dialled by WebSocket at once; empty where the upgrade is tried first."""
        at, why = self._detours.get(node, (now, ""))
        return why if now - at < DETOUR_LIFETIME else ""

    def in_order(self, plans: Sequence[DialPlan], now: float) -> list[DialPlan]:
        """The map's order, but those that failed lately last, the one that failed first before the others."""
        return sorted(plans, key=lambda plan: self._penalty(plan.node, now))

    def _penalty(self, node: DerpNode, now: float) -> float:
        at = self._failed_at.get(node)
        return at if at is not None and now - at < FAILURE_LIFETIME else float("-inf")
