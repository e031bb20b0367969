"""What topics and settings do not agree on, and which of it a migration changes."""

from __future__ import annotations

import pytest

from kybstream.operations.topic_changes import FoundTopic, differences
from kybstream.partitions import PartitionCountError, check_partitions

DAY = 86_400_000
COMPACTED = {"cleanup.policy": "compact", "min.insync.replicas": "2"}
WEEK = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY), "min.insync.replicas": "2"}


def lines(wanted: dict[str, str], found: FoundTopic | None, *, lower: bool = False) -> list[tuple[str, bool]]:
    """Key of each difference, and whether a migration changes it."""
    there = {} if found is None else {"t": found}
    return [(each.key, each.left is None) for each in differences({"t": wanted}, there, replicas=3, lower_retention=lower)]


def test_what_is_as_the_settings_say_is_no_difference() -> None:
    """Keys that the settings do not name are nobody's business here."""
    assert lines(WEEK, FoundTopic(8, 3, WEEK | {"segment.bytes": "1"})) == []
    assert lines(WEEK, None) == [("topic", True)]


@pytest.mark.parametrize(
    ("wanted", "found", "changed"),
    [
        (WEEK, {"retention.ms": str(DAY)}, True),
        (WEEK, {"retention.ms": str(30 * DAY)}, False),
        (WEEK, {"retention.ms": "-1"}, False),
        (WEEK, {"cleanup.policy": "compact"}, False),
        (WEEK, {"cleanup.policy": "compact,delete"}, True),
        (COMPACTED, {"cleanup.policy": "delete", "retention.ms": str(DAY)}, True),
        (COMPACTED, {"cleanup.policy": "compact,delete", "retention.ms": str(DAY)}, True),
    ],
)
def test_records_are_not_forgotten_earlier_unless_asked_for(
    wanted: dict[str, str], found: dict[str, str], *, changed: bool
) -> None:
    """Not by a shorter retention, and not by a policy that deletes what was kept for ever."""
    there = FoundTopic(8, 3, wanted | found)
    assert {change for _, change in lines(wanted, there)} == {changed}
    assert all(change for _, change in lines(wanted, there, lower=True))


def test_replicas_are_told_and_the_topic_stays_writable() -> None:
    """Two in sync of one replica would be a topic that takes nothing any more."""
    found = FoundTopic(8, 1, WEEK | {"min.insync.replicas": "1"})
    assert lines(WEEK, found) == [("replicas", False), ("min.insync.replicas", False)]
    assert lines(WEEK, FoundTopic(8, 3, found.config)) == [("min.insync.replicas", True)]


@pytest.mark.parametrize(("found", "hint"), [(3, "set kafka.partitions to 3 or more"), (1, "Set kafka.partitions back to 1")])
def test_another_number_of_partitions_says_what_mends_it(found: int, hint: str) -> None:
    """Kafka only adds partitions, so the way out depends on which number is larger."""
    check_partitions("t", found=2, configured=2)
    with pytest.raises(PartitionCountError, match=f"topic t has {found} partitions, kafka.partitions is 2") as caught:
        check_partitions("t", found=found, configured=2)
    assert hint in (caught.value.hint or "")
    assert "kyb-stream repartition" in (caught.value.hint or "")
