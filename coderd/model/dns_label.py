"""One label of a host's name in lower case (RFC 1123, section 2.1; RFC 1035, section 2.3.4). Pure."""

import re
from typing import Final

LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""A pattern for 1 to 63 letters, digits and hyphens, the latter not at an end."""

_LABEL: Final = re.compile(LABEL)


def is_label(text: str) -> bool:
    """Returns whether a text is one label."""
    return _LABEL.fullmatch(text) is not None
