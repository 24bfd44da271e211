"""``debug``: causes a fault, or asks for work now."""

from typing import Literal, TypeAlias

from coderd.control.messages.message import Message

DebugAction: TypeAlias = Literal["rebind", "netcheck", "break-relay", "break-server"]


class DebugParams(Message, frozen=True, kw_only=True):
    """``debug``: cause a fault, or ask for work now."""

    action: DebugAction


class DebugResult(Message, frozen=True, kw_only=True):
    """What was done."""

    text: str
