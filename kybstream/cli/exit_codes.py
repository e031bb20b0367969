"""Exit codes that are no error's own (kybstream.errors has those)."""

from __future__ import annotations

INTERRUPTED = 130
"""Ctrl-C, as a shell reports it."""
