"""What topics of Kafka and the settings do not agree on, and what of it `kyb-stream migrate` changes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

RETENTION = "retention.ms"
CLEANUP = "cleanup.policy"
MIN_INSYNC = "min.insync.replicas"

_FOR_EVER = -1
_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class FoundTopic:
    """A topic as Kafka has it.

    Attributes:
        partitions: How many.
        replicas: Of the partition that has the fewest.
        config: Its configuration, as far as ours names it; defaults included.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """A topic, or one thing of it, that is not as the settings say.

    Attributes:
        topic: Its full name.
        key: Of its configuration; `topic` where all of it is missing, `replicas` where these are too few or too many.
        found: What is there.
        wanted: What the settings say.
        left: Why `migrate` leaves it as it is; None where it changes it.
    """

    topic: str
    key: str
    found: str
    wanted: str
    left: str | None = None

    @property
    def missing(self) -> bool:
        """Whether the topic does not exist."""
        return self.key == "topic"

    def described(self) -> str:
        """The difference, as a line."""
        if self.missing:
            return f"topic {self.topic}: missing"
        found, wanted = _shown(self.key, self.found), _shown(self.key, self.wanted)
        line = f"topic {self.topic}: {self.key} is {found}, the settings say {wanted}"
        return line if self.left is None else f"{line}; {self.left}"

    def changed(self) -> str:
        """What was done about it, as a line."""
        if self.missing:
            return f"topic {self.topic}: made"
        return f"topic {self.topic}: {self.key} {_shown(self.key, self.found)} -> {_shown(self.key, self.wanted)}"


def differences(
    wanted: Mapping[str, Mapping[str, str]],
    found: Mapping[str, FoundTopic],
    *,
    replicas: int,
    lower_retention: bool = False,
) -> Iterator[Difference]:
    """All differences but numbers of partitions, by the names of topics.

    Args:
        wanted: Configuration by topic.
        found: The topics that exist.
        replicas: `kafka.replication_factor`.
        lower_retention: Whether `migrate` may let a topic forget records earlier than it does now.
    """
    for topic, config in sorted(wanted.items()):
        there = found.get(topic)
        if there is None:
            yield Difference(topic, "topic", "", "")
            continue
        if there.replicas != replicas:
            yield Difference(
                topic,
                "replicas",
                str(there.replicas),
                str(replicas),
                "left as it is: Kafka's kafka-reassign-partitions.sh changes it",
            )
        for key, value in sorted(config.items()):
            if there.config.get(key) != value:
                left = _why_left(key, value, there, forgets=_forgets_earlier(config, there.config), lower=lower_retention)
                yield Difference(topic, key, there.config.get(key, "unknown"), value, left)


def _why_left(key: str, wanted: str, there: FoundTopic, *, forgets: bool, lower: bool) -> str | None:
    if key in {RETENTION, CLEANUP} and forgets and not lower:
        return "left as it is, since Kafka would delete older records: `kyb-stream migrate --lower-retention` changes it"
    if key == MIN_INSYNC and int(wanted) > there.replicas:
        return f"left as it is: with {there.replicas} replicas nothing could be written any more"
    return None


def _forgets_earlier(wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether records would be deleted earlier than now."""
    return _kept_ms(wanted) < _kept_ms(found)


def _kept_ms(config: Mapping[str, str]) -> float:
    retention = int(config.get(RETENTION, _FOR_EVER))
    return float("inf") if "delete" not in config.get(CLEANUP, "delete") or retention == _FOR_EVER else retention


def _shown(key: str, value: str) -> str:
    if key != RETENTION or not value.lstrip("-").isdigit():
        return value
    if int(value) == _FOR_EVER:
        return f"{value} (for ever)"
    return f"{value} ({int(value) / _HOUR_MS:g} hours)"
