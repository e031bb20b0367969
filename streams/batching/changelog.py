"""The topic that holds a table's state. `migrate` can make it; a worker makes it if it is missing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChangelogTopic:
    """A changelog as an administrator has to create it."""

    name: str
    partitions: int


def changelog_topic(app_id: str, table: str, partitions: int) -> ChangelogTopic:
    """Return the changelog of `table` in the app `app_id`; it needs as many partitions as the table's source topics."""
    return ChangelogTopic(name=f"{app_id}-{table}-changelog", partitions=partitions)
