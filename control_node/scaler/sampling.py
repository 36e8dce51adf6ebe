"""Whom to ask, and when, where a group is too large to ask everybody all the time.

A group of up to FULL_UP_TO nodes is asked everything every second. Of a larger one a panel is asked
for metrics as often as that, and its figures stand for all; health is still asked of everyone, but
more seldom, and never of all at once.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Collection

FULL_UP_TO = 100
FULL_EVERY_S = 1.0
LARGE_EVERY_S = 10.0
# (z s / e) squared: 95 % confidence (z = 1.96) of a mean within e = 5 points of that of all, where
# nodes differ by s = 10 (standard deviation). As Knative, pkg/autoscaler/metrics/sample_size.go.
SIZE_OF_ENDLESS = 15.37


def sample_size(population: int) -> int:
    """How many of so many nodes have a mean that is good enough: 14 of 100, 16 of 10,000."""
    size = population * SIZE_OF_ENDLESS / (population + SIZE_OF_ENDLESS - 1)
    return min(population, math.ceil(size))


def panel(nodes: Collection[str]) -> frozenset[str]:
    """The nodes that are asked for metrics: all of a small group, a sample of a large one.

    By the hash of their names, so that it stays the same, but for those that come and go: a sample
    is known to be fresh only beside an earlier one of the same node.
    """
    if len(nodes) <= FULL_UP_TO:
        return frozenset(nodes)
    return frozenset(heapq.nsmallest(sample_size(len(nodes)), nodes, key=_place))


def health_every_s(nodes: int) -> float:
    """How often each node of a group of that size is asked for its health."""
    return FULL_EVERY_S if nodes <= FULL_UP_TO else LARGE_EVERY_S


def is_due(node: str, last: float, now: float, every_s: float) -> bool:
    """Whether a node that was asked at `last` is to be asked again.

    Each node has a moment of its own in every interval, by the hash of its name and counted from
    the clock's zero: a restart of ours does not bring them together (as in Prometheus,
    scrape/target.go). A node never asked (-inf) is due at once.
    """
    waited = now - last
    if waited < every_s / 2 or waited >= every_s:
        return waited >= every_s
    offset = _place(node) * every_s
    return math.floor((now - offset) / every_s) > math.floor((last - offset) / every_s)


def _place(node: str) -> float:
    """Where a name falls in 0..1, evenly for all names."""
    digest = hashlib.blake2b(node.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
