"""The dead letter of records that expired before they were read: of them, only their place is known."""

from __future__ import annotations

import re
from datetime import datetime

from kybstream.expired import Expired
from kybstream.ids import derived_id
from schemas.records import DeadLetter

EXPIRED_UNREAD = "expired_unread"
"""The reason."""

_DETAIL = re.compile(r"partition (\d{1,10}) offsets (\d{1,19}) to (\d{1,19})")


def expired_letter(expired: Expired, stage: str, noticed_at: datetime) -> DeadLetter:
    """The dead letter of a range of offsets; told again, it is the same one.

    Args:
        expired: What is gone.
        stage: That would have read it: intake, links, cases or sink.
        noticed_at: When the reader came to it.
    """
    topic, partition, first, last = expired
    return DeadLetter(
        dead_letter_id=derived_id("dead-letter", stage, EXPIRED_UNREAD, topic, f"{partition} {first} {last}"),
        received_at=noticed_at,
        stage=stage,
        reason=EXPIRED_UNREAD,
        detail=f"partition {partition} offsets {first} to {last}",
        origin_topic=topic,
        body_size=0,
    )


def expired_range(topic: str, detail: str) -> Expired | None:
    """What a dead letter of this reason says is gone; None where its detail is not one that `expired_letter` writes."""
    found = _DETAIL.fullmatch(detail)
    return None if found is None else Expired(topic, *map(int, found.groups()))
