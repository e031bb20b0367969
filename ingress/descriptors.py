"""How many descriptors this process may open, and how many connections that leaves room for."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

KEPT_FREE = 64
"""Descriptors beside connections and what is open at the start: Kafka's connections, the spool, probes, connections that are
being turned away."""

LEAST_CONNECTIONS = 8


def raise_limit(wanted: int) -> int:
    """Raises this process' soft limit of descriptors to `wanted`, at most to the hard limit; never lowers it.

    Returns:
        The limit that holds now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if target > soft:
        with suppress(OSError, ValueError):  # macOS has a limit of its own below the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            return target
    return soft


def open_descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


def connections_within(limit: int, open_now: int, wanted: int) -> int:
    """How many connections fit below a limit of descriptors; at most `wanted`, and never none."""
    return max(LEAST_CONNECTIONS, min(wanted, limit - open_now - KEPT_FREE))
