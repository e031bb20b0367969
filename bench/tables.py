"""A worker's table in memory, for what is measured without a store."""

from __future__ import annotations

from collections.abc import Collection, Mapping


class DictTable:
    """A table that is a dictionary."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that exist."""
        return {key: self.values[key] for key in keys if key in self.values}

    def write(self, writes: Mapping[bytes, bytes | None]) -> None:
        """Takes what a batch wrote; deletions are left out, for there is nothing old in it."""
        self.values.update({key: value for key, value in writes.items() if value is not None})
