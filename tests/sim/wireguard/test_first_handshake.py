"""The first handshake under loss, as it is documented."""

import pytest

from tests.sim.wireguard.handshake_trials import DOCUMENT, document, trial


def test_without_loss_a_handshake_takes_one_round_trip() -> None:
    assert trial(0.0, 1) == (0.04, 1)


@pytest.mark.slow
def test_the_documented_distribution_is_what_the_trials_give() -> None:
    assert DOCUMENT.read_text() == document()
