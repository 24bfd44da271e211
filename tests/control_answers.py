"""Answers of the control socket that are one line long."""

from typing import Any

from coderd.control.protocol import AnswerReader
from coderd.model.errors import MalformedPacket


def parse_answer(method: Any, request_id: int, line: bytes) -> Any:
    """Reads an answer of one line. Raises MalformedPacket where the line is malformed or a part."""
    answer = AnswerReader(method, request_id).read(line)
    if answer is None:
        raise MalformedPacket("a part of an answer")
    return answer
