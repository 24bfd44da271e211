"""Every method of the control socket: its name, its three types, and who may call it."""

from enum import Enum
from typing import Final, Generic, TypeAlias, TypeVar

from coderd.control.messages.debug import DebugParams, DebugResult
from coderd.control.messages.derp_map import DerpMapInfo, DerpMapParams
from coderd.control.messages.dial import DialParams, DialTarget
from coderd.control.messages.membership import DownParams, LogoutParams, UpParams, UpResult
from coderd.control.messages.message import Done, Message, Progress
from coderd.control.messages.netcheck import Netcheck, NetcheckParams
from coderd.control.messages.ping import PingParams, PingResult, Pong
from coderd.control.messages.speedtest import SpeedtestEvent, SpeedtestParams
from coderd.control.messages.status import Status, StatusParams
from coderd.control.messages.why import Why, WhyParams


class Access(Enum):
    """Callers that a method admits."""

    USE = "use"
    """root, the operator, and members of group ``coderd``."""
    MANAGE = "manage"
    """root and the operator."""


P = TypeVar("P", bound=Message)
E = TypeVar("E", bound=Message)
R = TypeVar("R", bound=Message)


class Method(Generic[P, E, R]):
    """A method's name, its rule and its three types, which ``protocol`` decodes by.

    Args:
        name: as on the wire.
        access: who may call it.
        params: type of the parameters.
        event: type of its events, a union where there are several; ``Done`` where there are none.
        result: type of its result.
    """

    __slots__ = ("access", "event", "name", "params", "result")

    def __init__(
        self, name: str, access: Access, *, params: type[P], event: type[E], result: type[R]
    ) -> None:
        self.name = name
        self.access = access
        self.params = params
        self.event = event
        self.result = result

    def __repr__(self) -> str:
        return f"<Method {self.name}>"


STATUS: Final = Method("status", Access.USE, params=StatusParams, event=Done, result=Status)
PING: Final = Method("ping", Access.USE, params=PingParams, event=Pong, result=PingResult)
SPEEDTEST: Final[Method[SpeedtestParams, SpeedtestEvent, Done]] = Method(
    "speedtest",
    Access.USE,
    params=SpeedtestParams,
    event=SpeedtestEvent,  # type: ignore[arg-type]  # a union is a type to msgspec, not to mypy
    result=Done,
)
NETCHECK: Final = Method("netcheck", Access.USE, params=NetcheckParams, event=Done, result=Netcheck)
DERP_MAP: Final = Method("derp-map", Access.USE, params=DerpMapParams, event=Done, result=DerpMapInfo)
WHY: Final = Method("why", Access.USE, params=WhyParams, event=Done, result=Why)
PORT_FORWARD: Final = Method("port-forward", Access.USE, params=DialParams, event=Done, result=DialTarget)
NC: Final = Method("nc", Access.USE, params=DialParams, event=Done, result=DialTarget)
UP: Final = Method("up", Access.MANAGE, params=UpParams, event=Progress, result=UpResult)
DOWN: Final = Method("down", Access.MANAGE, params=DownParams, event=Done, result=Done)
LOGOUT: Final = Method("logout", Access.MANAGE, params=LogoutParams, event=Progress, result=Done)
DEBUG: Final = Method("debug", Access.MANAGE, params=DebugParams, event=Done, result=DebugResult)
AnyMethod: TypeAlias = Method[Message, Message, Message]
METHODS: Final[dict[str, AnyMethod]] = {
    method.name: method  # type: ignore[misc]  # one dictionary for methods of all types
    for method in (
        STATUS,
        PING,
        NETCHECK,
        WHY,
        DERP_MAP,
        SPEEDTEST,
        PORT_FORWARD,
        NC,
        UP,
        DOWN,
        LOGOUT,
        DEBUG,
    )
}
"""Every method by its name on the wire."""
