"""``debug``: causes a fault, or asks for work now."""

from typing import Literal, TypeAlias

from coderd.control.messages.message import Message

DebugAction: TypeAlias = Literal["rebind", "netcheck", "break-relay", "break-server"]


class DebugParams(Message, frozen=True, kw_only=True):
    """Parameters of ``debug``: the fault to cause, or the work to do now."""

    action: DebugAction


class DebugResult(Message, frozen=True, kw_only=True):
    """Action that was taken, as a sentence."""

    text: str
