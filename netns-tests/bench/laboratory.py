"""The laboratory of a benchmark: two hosts with public addresses, and failures in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from lab import Lab, LabError


@contextmanager
def laboratory() -> Iterator[Lab]:
    """One, gone when its ``with`` ends; a LabError leaves it without the logs of all its programs."""
    failure: LabError | None = None
    with Lab("no-nat") as lab:
        try:
            yield lab
        except LabError as error:
            failure = error
    if failure is not None:
        raise failure
