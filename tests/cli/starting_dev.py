"""Starting `kyb-stream dev` in a test."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.commands import Background

StartDev = Callable[..., Background]
"""Starts it with these arguments, and settings in the environment."""
