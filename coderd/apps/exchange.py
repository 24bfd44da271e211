"""One request to an app and its answer, as HTTP/1.1 has it (RFC 9112). Pure.

    begin, send_body, end_request   ->  bytes for the app
    bytes of the app  ->  handle_data, poll  ->  Head, then Pieces, then End; or Switched, where the request asked for that

All of h11's events and states are handled here, and nowhere else: what has no place in an answer is a
BadAnswer, so that no reader ever waits for something that a parser will not give.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias, assert_never

import h11

from coderd.apps.headers import Headers
from coderd.model import limits

MAX_HEAD: Final = limits.MAX_APP_HEAD
"""Bytes of the head of an app's answer."""
MAX_INTERIM: Final = limits.MAX_APP_INTERIM
"""Answers of 1xx before the answer itself."""
_SWITCHING: Final = 101


class BadAnswer(Exception):
    """The app closed the connection, or does not speak HTTP, before its answer was whole."""


class BadRequest(Exception):
    """What was asked is no request of HTTP/1.1."""


class Head(NamedTuple):
    """An answer begins."""

    status: int
    headers: Headers


class Piece(NamedTuple):
    """Some of its body; may be empty."""

    data: bytes


class Switched(NamedTuple):
    """The app goes on in the protocol that the request asked for."""

    headers: Headers
    trailing: bytes
    """What it has said in that protocol already."""


class Step(Enum):
    """The rest of what ``poll`` can return."""

    NEED_DATA = auto()
    """More bytes of the app are needed first."""
    INTERIM = auto()
    """The app sent an interim response (1xx), which is not passed on."""
    END = auto()
    """The answer is whole."""


Answered: TypeAlias = Head | Piece | Switched | Step


class _Pause(Enum):
    """h11's two signs that are no events."""

    NEED_DATA = auto()
    PAUSED = auto()


Event: TypeAlias = (
    h11.Request
    | h11.InformationalResponse
    | h11.Response
    | h11.Data
    | h11.EndOfMessage
    | h11.ConnectionClosed
)
"""All that h11 has."""


class Exchange:
    """A request and its answer.

    Args:
        method: in upper case.
        target: path and query.
        headers: of the request, its framing among them.
        may_switch: whether the request asks for another protocol.

    Raises:
        BadRequest: HTTP/1.1 has no such request.
    """

    def __init__(self, method: str, target: bytes, headers: Headers, *, may_switch: bool = False) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._may_switch = may_switch
        self._n_interim = 0
        self.is_heard = False
        """Whether anything has come from the app."""
        try:
            self._head = self._send(h11.Request(method=method.encode(), target=target, headers=headers))
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise BadRequest(str(error)) from None

    # Toward the app

    def begin(self) -> bytes:
        """Returns the request's head in bytes. From here on it counts as sent."""
        return self._head

    def send_body(self, data: bytes) -> bytes:
        """Returns bytes of the request's body; none if the app does not want it any more."""
        return self._send(h11.Data(data=data)) if self._http.our_state is h11.SEND_BODY else b""

    def end_request(self) -> bytes:
        """Returns the bytes that end the body. Raises BadRequest if it is shorter than announced."""
        return self._send(h11.EndOfMessage()) if self._http.our_state is h11.SEND_BODY else b""

    def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        try:
            return self._http.send(event)
        except h11.LocalProtocolError as error:
            raise BadRequest(str(error)) from None

    # From the app

    def handle_data(self, data: bytes) -> None:
        """Takes what the app said; empty is its end."""
        self.is_heard = self.is_heard or bool(data)
        self._http.receive_data(data)

    def poll(self) -> Answered:
        """Returns the next event of the answer. Raises BadAnswer."""
        event = self._next_event()
        match event:
            case h11.InformationalResponse():
                return self._take_interim(event)
            case h11.Response():
                return self._take_head(event)
            case h11.Data():
                return Piece(bytes(event.data))
            case h11.EndOfMessage():
                return Step.END
            case _Pause.NEED_DATA:
                return Step.NEED_DATA
            case _Pause.PAUSED:
                raise BadAnswer("the app goes on in another protocol, or behind its answer")
            case h11.ConnectionClosed():
                raise BadAnswer("the app closed the connection")
            case h11.Request():
                raise BadAnswer("the app asks instead of answering")
            case _:
                assert_never(event)

    def _next_event(self) -> Event | _Pause:
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise BadAnswer(str(error)) from None
        if event is h11.NEED_DATA:
            return _Pause.NEED_DATA
        if event is h11.PAUSED:
            return _Pause.PAUSED
        assert isinstance(event, Event)
        return event

    def _take_interim(self, event: h11.InformationalResponse) -> Answered:
        if event.status_code == _SWITCHING:
            if not self._may_switch:
                raise BadAnswer("the app switched protocols unasked")
            return Switched(_plain(event.headers), self._http.trailing_data[0])
        self._n_interim += 1
        if self._n_interim > MAX_INTERIM:
            raise BadAnswer("the app goes on announcing its answer")
        return Step.INTERIM

    def _take_head(self, event: h11.Response) -> Head:
        headers = _plain(event.headers)
        names = {name for name, _ in headers}
        if {b"transfer-encoding", b"content-length"} <= names:
            raise BadAnswer("the app says in two ways where its answer ends")
        return Head(event.status_code, headers)

    # Looking

    @property
    def is_over(self) -> bool:
        """Whether both have come to their ends, with nothing behind them, and the app goes on listening."""
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return is_done and not self._http.trailing_data[0]


def _plain(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(bytes(name), bytes(value)) for name, value in headers]
