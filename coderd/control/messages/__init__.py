"""Messages of the control socket: the parameters, events and result of every method, and who may call it.

One schema for both ends and for ``--json``. It only ever grows: a field is added, never renamed or taken
away, and readers ignore what they do not know. Durations in ``*_s`` are seconds, latencies in ``*_ms`` are
milliseconds. Bounds stand in the types, so that what reaches a handler is within them.

method        params           events                     result       module
status        StatusParams     -                          Status       status
ping          PingParams       Pong                       PingResult   ping
netcheck      NetcheckParams   -                          Netcheck     netcheck
why           WhyParams        -                          Why          why
derp-map      DerpMapParams    -                          DerpMapInfo  derp_map
speedtest     SpeedtestParams  Waiting, Ready, PathBytes  -            speedtest
port-forward  DialParams       -                          DialTarget   dial
nc            DialParams       -                          DialTarget   dial
up            UpParams         Progress                   UpResult     membership
down          DownParams       -                          Done         membership
logout        LogoutParams     Progress                   Done         membership
debug         DebugParams      -                          DebugResult  debug

``speedtest`` lasts until the caller closes, so it has no result. ``message`` has what several of them share,
``methods`` the table of methods.
"""

from coderd.control.messages.debug import DebugAction, DebugParams, DebugResult
from coderd.control.messages.derp_map import DerpMapInfo, DerpMapParams, RelayCheck
from coderd.control.messages.dial import DialParams, DialTarget
from coderd.control.messages.membership import DownParams, LogoutParams, UpParams, UpResult
from coderd.control.messages.message import Done, Message, PeerName, Port, Progress, Text
from coderd.control.messages.methods import (
    DEBUG,
    DERP_MAP,
    DOWN,
    LOGOUT,
    METHODS,
    NC,
    NETCHECK,
    PING,
    PORT_FORWARD,
    SPEEDTEST,
    STATUS,
    UP,
    WHY,
    Access,
    AnyMethod,
    Method,
)
from coderd.control.messages.netcheck import Netcheck, NetcheckParams, RegionDistance
from coderd.control.messages.ping import PingParams, PingResult, Pong
from coderd.control.messages.speedtest import PathBytes, Ready, SpeedtestEvent, SpeedtestParams, Waiting
from coderd.control.messages.status import (
    Batches,
    PeerPath,
    PeerStatus,
    Region,
    RelayLink,
    SelfStatus,
    ServerStatus,
    State,
    Status,
    StatusParams,
    Transport,
)
from coderd.control.messages.why import Cause, Why, WhyParams

__all__ = [
    "DEBUG",
    "DERP_MAP",
    "DOWN",
    "LOGOUT",
    "METHODS",
    "NC",
    "NETCHECK",
    "PING",
    "PORT_FORWARD",
    "SPEEDTEST",
    "STATUS",
    "UP",
    "WHY",
    "Access",
    "AnyMethod",
    "Batches",
    "Cause",
    "DebugAction",
    "DebugParams",
    "DebugResult",
    "DerpMapInfo",
    "DerpMapParams",
    "DialParams",
    "DialTarget",
    "Done",
    "DownParams",
    "LogoutParams",
    "Message",
    "Method",
    "Netcheck",
    "NetcheckParams",
    "PathBytes",
    "PeerName",
    "PeerPath",
    "PeerStatus",
    "PingParams",
    "PingResult",
    "Pong",
    "Port",
    "Progress",
    "Ready",
    "Region",
    "RegionDistance",
    "RelayCheck",
    "RelayLink",
    "SelfStatus",
    "ServerStatus",
    "SpeedtestEvent",
    "SpeedtestParams",
    "State",
    "Status",
    "StatusParams",
    "Text",
    "Transport",
    "UpParams",
    "UpResult",
    "Waiting",
    "Why",
    "WhyParams",
]
