"""Deliveries that Kafka did not take in time, safe on this host's disk until it does.

`spool.Spool` keeps them, `drainer.drain` brings them to Kafka. May import `kybstream` (but not its `cli`);
knows nothing of HTTP.
"""

from ingress.spool.drainer import DrainLimits, Lanes, drain
from ingress.spool.entries import SpoolEntry, SpoolStats, StoredEntry
from ingress.spool.failures import SpoolFailedError, SpoolFullError
from ingress.spool.left_behind import drain_left_behind, spool_folder
from ingress.spool.spool import Spool, SpoolLimits

__all__ = [
    "DrainLimits",
    "Lanes",
    "Spool",
    "SpoolEntry",
    "SpoolFailedError",
    "SpoolFullError",
    "SpoolLimits",
    "SpoolStats",
    "StoredEntry",
    "drain",
    "drain_left_behind",
    "spool_folder",
]
