"""docs/reference/topics.md: the topics, and each field of what travels on them, from the code and the Avro schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kybstream.settings import Settings
from schemas import topics
from schemas.asyncapi import ce_type
from schemas.codec import newest_schema
from schemas.topics import ALL_TOPICS, Topic
from streams.worker import changelog_topics
from tests.docs.codes import ANOMALIES, DEAD_LETTER_REASONS, PLACEMENTS, VIOLATIONS
from tests.docs.markdown import code, intro, prose, table

INTRO = intro("topics")

HEADERS = intro("topics-headers")


def topics_page() -> str:
    """The whole page."""
    settings = Settings()
    overview = table(
        ("topic", "record", "`ce_type`", "key", "kept"),
        ([f"[{_name(topic)}](#{_anchor(topic)})", kind.__name__, code(ce_type(kind)), prose(topic.key),
          _kept(topic, settings)] for topic in ALL_TOPICS for kind in topic.records),
    )  # fmt: skip
    changelogs = ", ".join(f"`{name}`" for name in changelog_topics(settings))
    internal = (
        f"The worker keeps its state in changelog topics of its own ({changelogs}). They are internal: compacted, and of no "
        "promised form."
    )
    sections = [INTRO, overview, "", internal, "", HEADERS, *(_topic(topic) for topic in ALL_TOPICS), _codes()]
    return "\n".join(sections)


def _name(topic: Topic) -> str:
    return f"kyb.{topic.suffix}"


def _anchor(topic: Topic) -> str:
    return _name(topic).replace(".", "")


def _kept(topic: Topic, settings: Settings) -> str:
    if topic.retention is None:
        return "compacted: the newest of each key"
    hours = int(getattr(settings.kafka.retention_hours, topic.retention))
    return f"{hours // 24} days (`kafka.retention_hours.{topic.retention}`)"


def _topic(topic: Topic) -> str:
    schema = newest_schema(topic.record).json
    key = f"Key: {prose(topic.key)}. Schema: `schemas/avro/{newest_schema(topic.record).name}.avsc`."
    if topic.suffix == topics.RAW:
        key += " `tail` shows the sizes of `body` and `case_token`, never their content."
    parts = [f"## {_name(topic)}\n", f"{prose(schema['doc'])}\n", f"{key}\n", _fields(schema)]
    parts += [f"\nOf each **{inner['name']}**:\n\n{_fields(inner)}" for inner in _inner_records(schema)]
    for kind in topic.also:
        other = newest_schema(kind)
        parts += [f"\nAlso here, **{kind.__name__}**: {prose(other.json['doc'])} Schema: `schemas/avro/{other.name}.avsc`.\n"]
        parts += [_fields(other.json)]
    return "\n".join(parts) + "\n"


def _fields(schema: dict[str, Any]) -> str:
    return table(
        ("field", "type", "meaning"),
        ((code(field["name"]), _type(field["type"]), prose(field["doc"])) for field in schema["fields"]),
    )


def _type(avro: Any) -> str:
    if isinstance(avro, str):
        return avro
    if isinstance(avro, list):
        return " or ".join(_type(each) for each in sorted(avro, key=lambda each: each == "null"))
    if avro.get("logicalType") == "timestamp-micros":
        return "time"
    words: dict[str, Callable[[], str]] = {
        "enum": lambda: ", ".join(code(symbol) for symbol in avro["symbols"]),
        "array": lambda: f"list of {_type(avro['items'])}",
        "map": lambda: f"map to {_type(avro['values'])}",
        "record": lambda: str(avro["name"]),
    }
    return words[avro["type"]]()


def _inner_records(schema: dict[str, Any]) -> list[dict[str, Any]]:
    types = [field["type"] for field in schema["fields"]]
    items = [each["items"] for each in types if isinstance(each, dict) and "items" in each]
    return [item for item in items if isinstance(item, dict) and item.get("type") == "record"]


def _codes() -> str:
    parts = ["## Codes\n"]
    for title, what, codes in (
        ("Reasons of dead letters", "`stage` and `reason` of `kyb.dead-letters.v1`:", DEAD_LETTER_REASONS),
        ("Placements", "By which rule a callback came to its case ([joining](../explanation/joining.md)):", PLACEMENTS),
        ("Anomalies", "What a case says is odd about it ([cases](../explanation/cases.md)):", ANOMALIES),
        ("Violations", "`<rule>:<field>`, where a body breaks the provider's document. They never reject:", VIOLATIONS),
    ):
        rows = ((code(key), prose(text)) for key, text in codes.items())
        parts.append(f"### {title}\n\n{what}\n\n{table(('code', 'meaning'), rows)}\n")
    return "\n".join(parts)
