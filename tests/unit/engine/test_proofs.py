"""A connection that shows a peer's secret is believed.

What is under way is waited for, and no longer than that.
"""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from coderd.engine.introduction import SecretTold
from coderd.engine.io.proofs import TUNNEL_SECRET_TIMEOUT, Proofs
from coderd.engine.tunnel_secrets import TunnelSecrets
from coderd.model.keys import NodePublic
from coderd.model.netmap import Capability, NodeKind
from tests.shell.daemon_world import make_peer

OLD = make_peer("ann/phone", 2, kind=NodeKind.DEVICE)
PHONE = replace(OLD, capabilities=frozenset({Capability.TUNNEL_SECRET}))
SECRET = b"s" * 32


class Serving:
    """A workspace's side; the phone answers the question with a number, if it answers at all."""

    def __init__(self, answers_question: int = 0) -> None:
        self.secrets = TunnelSecrets(bytes, 1)
        self.proofs = Proofs(self.secrets, self._ask)
        self.n_asked = 0
        self._answers_question = answers_question

    def _ask(self, peer: NodePublic) -> None:
        assert peer == PHONE.node_key
        self.n_asked += 1
        if self.n_asked == self._answers_question:
            self.tell(SECRET)

    def tell(self, secret: bytes) -> None:
        self.secrets.handle_told(SecretTold(PHONE.node_key, 1, secret))
        self.proofs.handle_told()


async def test_whose_daemon_told_nothing_and_cannot_is_served_as_its_policy_says() -> None:
    assert await Serving().proofs.proves(OLD, "")


async def test_who_shows_what_was_told_is_believed_at_once_and_who_shows_nothing_is_not(
    autojump_clock: MockClock,
) -> None:
    serving = Serving()
    serving.tell(SECRET)
    began = trio.current_time()
    for peer in (OLD, PHONE):
        assert await serving.proofs.proves(peer, SECRET.hex())
        for shown in ("", "no hex", "é"):
            assert not await serving.proofs.proves(peer, shown)
    assert trio.current_time() == began
    assert serving.n_asked == 0


@pytest.mark.parametrize("told_before", [None, b"of the last start"])
async def test_a_secret_that_was_lost_is_asked_for_until_it_comes(
    autojump_clock: MockClock, told_before: bytes | None
) -> None:
    serving = Serving(answers_question=3)
    if told_before is not None:
        serving.tell(told_before)
    began = trio.current_time()
    assert await serving.proofs.proves(PHONE, SECRET.hex())
    assert trio.current_time() - began < 1


async def test_a_secret_that_does_not_come_is_waited_for_briefly(autojump_clock: MockClock) -> None:
    serving = Serving()
    began = trio.current_time()
    assert not await serving.proofs.proves(PHONE, SECRET.hex())
    assert trio.current_time() - began == pytest.approx(TUNNEL_SECRET_TIMEOUT)
