"""Which environment variables are probably mistakes."""

import pytest

from coderd.config.environment import KNOWN, is_one_letter_away, unknown_names


def found(*names: str) -> list[tuple[str, str]]:
    return [(each.name, each.nearest) for each in unknown_names(names)]


def test_every_known_name_is_silent() -> None:
    assert found(*KNOWN, "CODERD_RUN_OPTIONS", "CODER_AGENT_TOKEN_MEMFD", "PATH", "coderd_mtu") == []


def test_an_unknown_name_of_ours_is_found_with_the_nearest_one() -> None:
    assert found("CODERD_LISTEN_PROT", "CODERD_URL") == [
        ("CODERD_LISTEN_PROT", "CODERD_LISTEN_PORT"),
        ("CODERD_URL", "CODER_URL"),
    ]
    assert found("CODERD_FROBNICATE") == [("CODERD_FROBNICATE", "")]


def test_coder_s_own_variables_are_left_alone_but_for_slips_of_one_letter() -> None:
    coders = ("CODER_SESSION_TOKEN", "CODER_WORKSPACE_NAME", "CODER_CONFIG_DIR", "CODER_PG_CONNECTION_URL")
    assert found(*coders) == []
    assert found("CODER_ACESS_URL", "CODER_TLS_ENABEL", "CODER_BLOCK_DIRECTS") == [
        ("CODER_ACESS_URL", "CODER_ACCESS_URL"),
        ("CODER_BLOCK_DIRECTS", "CODER_BLOCK_DIRECT"),
        ("CODER_TLS_ENABEL", "CODER_TLS_ENABLE"),
    ]


def test_a_kubernetes_service_of_that_name_is_no_mistake() -> None:
    assert (
        found(
            "CODERD_SERVICE_HOST",
            "CODERD_SERVICE_PORT",
            "CODERD_SERVICE_PORT_HTTP",
            "CODERD_PORT",
            "CODERD_PORT_3000_TCP",
            "CODERD_PORT_3000_TCP_ADDR",
        )
        == []
    )


def test_a_value_is_never_in_the_sentence() -> None:
    (unknown,) = unknown_names({"CODERD_TOKNE": "secret"})
    assert unknown.sentence == "the environment variable CODERD_TOKNE is unknown and has no effect"


@pytest.mark.parametrize(
    ("one", "other"), [("ab", "abc"), ("abc", "ac"), ("abc", "axc"), ("abc", "acb"), ("a", "b")]
)
def test_one_letter_is_inserted_left_out_replaced_or_two_exchanged(one: str, other: str) -> None:
    assert is_one_letter_away(one, other)
    assert is_one_letter_away(other, one)


@pytest.mark.parametrize(("one", "other"), [("ab", "ab"), ("ab", "abcd"), ("abcd", "badc"), ("abc", "cba")])
def test_more_than_one_letter_is_another_name(one: str, other: str) -> None:
    assert not is_one_letter_away(one, other)
