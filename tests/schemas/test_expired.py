"""The dead letter of what expired unread."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kybstream.expired import Expired
from schemas.codec import decode, encode
from schemas.expired import EXPIRED_UNREAD, expired_letter, expired_range
from schemas.records import DeadLetter

NOW = datetime(2026, 12, 1, tzinfo=UTC)
GONE = Expired("kyb.webhooks.raw.v1", 3, 10, 33)


def test_it_has_the_offsets_and_names_no_record() -> None:
    """What is written can be read back; there is nothing else in it."""
    letter = decode(encode(expired_letter(GONE, "intake", NOW)), DeadLetter)
    assert (letter.stage, letter.reason, letter.received_at) == ("intake", EXPIRED_UNREAD, NOW)
    assert expired_range(letter.origin_topic, letter.detail or "") == GONE
    assert (letter.origin_key, letter.origin_value, letter.origin_headers, letter.body_size) == (None, None, {}, 0)


def test_told_again_it_is_the_same_letter() -> None:
    """Whenever that is; other offsets, and another reader, make another one."""
    first = expired_letter(GONE, "intake", NOW).dead_letter_id
    assert expired_letter(GONE, "intake", NOW + timedelta(days=1)).dead_letter_id == first
    others = [GONE._replace(topic="t"), GONE._replace(partition=4), GONE._replace(first=9), GONE._replace(last=34)]
    ids = {first, expired_letter(GONE, "sink", NOW).dead_letter_id} | {
        expired_letter(other, "intake", NOW).dead_letter_id for other in others
    }
    assert len(ids) == 6


@pytest.mark.parametrize("detail", ["", "partition 3", "partition 3 offsets 10 to", "partition 3 offsets 1 to 2; more"])
def test_another_detail_is_no_range(detail: str) -> None:
    """The table is open to whoever writes to the topic."""
    assert expired_range("t", detail) is None
