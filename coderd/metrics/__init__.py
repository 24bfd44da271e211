"""Counters by reason: what was dropped and why, what was moved and how.

Pure; shown by status and /metrics.
"""

from collections import Counter
from typing import TypeAlias

Counters: TypeAlias = Counter[str]
"""Counts by dotted name, such as ``wireguard.drop.replay``.

Its owner increments, others take ``dict(counters)``.
"""
