from coderd.model.errors import UserError, sentence_of


def test_a_message_becomes_a_sentence() -> None:
    assert UserError("the app does not answer").sentence == "The app does not answer."
    assert sentence_of("HTTPS_PROXY is no URL") == "HTTPS_PROXY is no URL."
