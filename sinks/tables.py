"""Which topic lands in which table."""

from __future__ import annotations

from dataclasses import dataclass

from schemas import records, topics
from schemas.records import Record


@dataclass(frozen=True)
class Table:
    """One table and the topic that fills it.

    Attributes:
        name: In the database of the settings.
        topic: The topic's name without the prefix of the settings.
        record: What travels on it.
        identity: The fields that name a record, as in the table's ORDER BY; two rows alike in them are one.
        time: The column of the time that a row is about; retention counts from it.
    """

    name: str
    topic: str
    record: type[Record]
    identity: tuple[str, ...]
    time: str = "received_at"

    def identity_of(self, record: Record) -> str:
        """The values of `identity` as one text, as migration 7 keeps them; an absent tenant is empty, as in the table.

        It is compared whole and never taken apart, because a value may hold the line feed that joins them.
        """
        return "\n".join(str(getattr(record, field) or "") for field in self.identity)


TABLES: tuple[Table, ...] = (
    Table("deliveries", topics.DELIVERIES, records.Delivery, ("tenant", "delivery_id")),
    Table("events", topics.EVENTS, records.Event, ("tenant", "event_id")),
    Table("cases", topics.CASES, records.Case, ("tenant", "case_id", "version"), time="updated_at"),
    Table("dead_letters", topics.DEAD_LETTERS, records.DeadLetter, ("tenant", "dead_letter_id")),
    Table("rejections", topics.REJECTIONS, records.Rejection, ("tenant", "rejection_id"), time="minute"),
    Table("replays", topics.REPLAYS, records.Replay, ("tenant", "replay_id"), time="replayed_at"),
)

POSITION_COLUMNS = ("_topic", "_partition", "_offset")
"""Where in Kafka a row came from; framed before the record's own fields."""
