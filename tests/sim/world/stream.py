"""Links of a daemon: TCP connections to a server or relay, on virtual time."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coderd.model.backoff import Backoff

if TYPE_CHECKING:
    from tests.sim.world.node import Node, Process


@dataclass
class Place:
    """A server or relay: whether its process runs, and the round trip to it in seconds."""

    rtt: float
    is_up: bool = True


class Stream:
    """TCP connection to a server or relay, dialled again whenever it breaks, as a daemon's links are.

    From SYN to the last word of the join are three round trips: TCP, the Upgrade, and the proof of the key.

    Attributes:
        place: what it leads to.
        is_wanted: whether it is dialled whenever it is not up.
        is_up: whether this end is open.
        peer_sees_it: whether the other end is open.
    """

    def __init__(
        self, process: "Process", place: Place, on_up: Callable[[], None], on_down: Callable[[], None]
    ) -> None:
        self.place = place
        self._process = process
        self._world = process.world
        self._on_up, self._on_down = on_up, on_down
        self._backoff = Backoff(process.node.rng.randbytes, longest=5.0)
        self._attempt = 0
        self.is_wanted = False
        self._waiting: deque[Callable[[], None]] = deque(maxlen=256)
        self.is_up = False
        self.peer_sees_it = False

    @property
    def node(self) -> "Node":
        """The machine that dials."""
        return self._process.node

    def send(self, action: Callable[[], None]) -> None:
        """Sends something by its effect: now, or once the connection that is being dialled is up."""
        if self.is_up:
            action()
        else:
            self._waiting.append(action)

    def dial(self) -> None:
        """Connects, and again whenever that fails or breaks."""
        self.is_wanted = True
        if not self.is_up:
            self.redial_now()

    def redial_now(self) -> None:
        """Gives up the connection that there is, and dials another at once."""
        if self.is_wanted:
            self.cut()
            self.is_wanted = True
            self._try(self._attempt)

    def cut(self) -> None:
        """Ends the connection and every attempt."""
        self._attempt += 1
        self.is_wanted = False
        was_up, self.is_up = self.is_up, False
        if was_up:
            self._world.handle_stream_gone(self)
            if self._process.node.process is self._process:
                self._on_down()

    def fall_silent(self) -> None:
        """Stops to speak: the other end closes after ``SILENCE`` seconds."""
        self._world.after(self._world.SILENCE, lambda: self._world.handle_stream_gone(self))

    def handle_reset(self) -> None:
        """Takes that the other end has closed: dials again, after the backoff."""
        if self.is_up and not self._process.node.is_asleep:
            self.is_up = False
            self._attempt += 1
            self._on_down()
            self._retry(self._attempt)

    def _try(self, attempt: int) -> None:
        world, node = self._world, self._process.node
        takes = 3 * self.place.rtt if self.place.is_up and not node.is_unplugged else self.place.rtt
        world.after(takes, lambda: self._handle_answer(attempt))

    def _handle_answer(self, attempt: int) -> None:
        node = self._process.node
        if attempt != self._attempt or node.process is not self._process or node.is_asleep:
            return
        if not self.place.is_up or node.is_unplugged or not self._world.lets_in(self):
            self._retry(attempt)
            return
        self.is_up = True
        self._backoff.reset()
        self._world.handle_stream_up(self)
        self._on_up()
        while self._waiting:
            self._waiting.popleft()()

    def _retry(self, attempt: int) -> None:
        def again() -> None:
            if attempt == self._attempt and self._process.node.process is self._process:
                self._try(attempt)

        self._world.after(self._backoff.next_delay(), again)
