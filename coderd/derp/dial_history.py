"""Outcomes of earlier dials of relays: nodes that failed, and nodes that only a WebSocket reaches. Pure.

They order the next dial of a region: nodes that failed lately come last, and where only a WebSocket got
through, the upgrade is not tried again for some minutes.
"""

from collections.abc import Sequence
from typing import Final

from coderd.derp.dial_plan import DialPlan
from coderd.model.derpmap import DerpNode

FAILURE_LIFETIME: Final = 120.0
"""Seconds for which a node that failed comes after the other nodes of its region."""
DETOUR_LIFETIME: Final = 600.0
"""Seconds for which a node that needed a WebSocket is dialled by WebSocket at once."""


class DialHistory:
    """This machine's outcomes of dialling relays, by the relays' nodes; owned by the keeper of the links."""

    def __init__(self) -> None:
        self._failed_at: dict[DerpNode, float] = {}
        self._detours: dict[DerpNode, tuple[float, str]] = {}

    def note_failed(self, node: DerpNode, now: float) -> None:
        """Notes that a node could not be reached, or fell silent; forgets failures that are too old."""
        self._failed_at = {
            other: at for other, at in self._failed_at.items() if now - at < FAILURE_LIFETIME
        } | {node: now}

    def note_reached(self, node: DerpNode) -> None:
        """Notes that a node has answered, so that its failure is forgotten."""
        self._failed_at.pop(node, None)

    def note_detour(self, node: DerpNode, why: str, now: float) -> None:
        """Notes that a node was reached by WebSocket after its upgrade had failed; ``why`` says how."""
        self._detours = {
            other: (at, reason) for other, (at, reason) in self._detours.items() if now - at < DETOUR_LIFETIME
        } | {node: (now, why)}

    def forget(self) -> None:
        """Forgets all outcomes, as the machine is in another network."""
        self._failed_at.clear()
        self._detours.clear()

    def detour(self, node: DerpNode, now: float) -> str:
        """Returns why a node is to be dialled by WebSocket at once; empty to try the upgrade first."""
        at, why = self._detours.get(node, (now, ""))
        return why if now - at < DETOUR_LIFETIME else ""

    def in_order(self, plans: Sequence[DialPlan], now: float) -> list[DialPlan]:
        """Returns the plans in their order, but nodes that failed lately last, by their failures' times."""
        return sorted(plans, key=lambda plan: self._penalty(plan.node, now))

    def _penalty(self, node: DerpNode, now: float) -> float:
        at = self._failed_at.get(node)
        return at if at is not None and now - at < FAILURE_LIFETIME else float("-inf")
