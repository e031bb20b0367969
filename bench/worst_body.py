"""The body of 1 MiB that costs the pure core most: reading, intake and case, of many shapes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from bench.tables import DictTable
from kybstream.privacy import Pseudonymiser
from schemas.codec import encode
from schemas.providers import kyb, kyc
from schemas.providers.identity import identify_bytes
from schemas.records import WebhookDelivery
from schemas.topics import entity_key
from streams.batching.records import Record as KafkaRecord
from streams.policy import TenantPolicy
from streams.processing import CasesProcess, IntakeProcess, TopicNames

SIZE = 1 << 20
RUNS = 3
NAMES = TopicNames("kyb.")
PSEUDONYMISER = Pseudonymiser(b"k" * 32)
POLICIES = {"acme": TenantPolicy(PSEUDONYMISER, (b"t" * 32,))}

_UNITS = (b"0", b"1.5e300", b'"a"', b'"%d"', b"[]", b"{}", b'{"code":"A%d"}', b"[[[[0]]]]", b'"\\u00e9"', b"9" * 400, b"null")
_MEMBERS = (b'"%d":null', b'"%d":"x"', b'"%d":[]', b'"\\u00e9%d":0')
_TEXTS = ("x", "a b ", "\N{LATIN SMALL LETTER E WITH ACUTE}", "c1.", "\\n", "&a=1", "%41")


def shapes() -> Iterator[tuple[str, str, bytes]]:
    """The kind of source, what the body is, and the body."""
    for kind, entity, fields in (
        ("kyb-service", b'"service_id":"667ab56f"', sorted(kyb.DOCUMENT.keys() - {"service_id"})),
        ("kyc-registration", b'"userNo":"1"', sorted(kyc.DOCUMENT.keys() - {"userNo"})),
    ):
        for unit in _MEMBERS:
            yield kind, f"members {unit.decode()}", b"{" + entity + b"," + _many(unit) + b"}"
        for name in (*fields, "other"):
            begin = b"{" + entity + b',"' + name.encode() + b'":'
            for text in _TEXTS:
                size = len(text.encode())
                yield kind, f"{name} text of {text!r}", begin + b'"' + text.encode() * ((SIZE - 200) // size) + b'"}'
            for unit in _UNITS:
                yield kind, f"{name} list of {unit[:20].decode()}", begin + b"[" + _many(unit) + b"]}"
            yield kind, f"{name} object", begin + b"{" + _many(b'"%d":0') + b"}}"


def _many(unit: bytes) -> bytes:
    count = (SIZE - 200) // (len(unit) + 1 + (6 if b"%d" in unit else 0))
    return b",".join([unit % number for number in range(count)] if b"%d" in unit else [unit] * count)


def seconds_of(kind: str, body: bytes) -> float:
    """The shortest time of some runs from the raw record to the snapshot."""
    identity = identify_bytes("kyb-service" if kind == "kyb-service" else "kyc-registration", body, PSEUDONYMISER)
    delivery = WebhookDelivery(
        delivery_id="01a20612-5a43-72a9-a4d0-000000000000",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        tenant="acme",
        source="some",
        source_kind=kind,
        entity_key=None if identity is None else entity_key("acme", identity.entity),
        body=body,
    )
    record = KafkaRecord(NAMES.raw, 0, 0, 0, (delivery.entity_key or "acme/!1").encode(), encode(delivery), ())
    intake, cases = IntakeProcess(POLICIES, NAMES), CasesProcess(POLICIES, NAMES)
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        outputs = intake(0, [record], DictTable()).outputs
        told = [
            KafkaRecord(each.topic, 0, 0, 0, each.key, each.value, ()) for each in outputs if each.topic == NAMES.case_events
        ]
        cases(0, told, DictTable())
        times.append(time.process_time() - began)
    return min(times)


def worst_body() -> tuple[float, str]:
    """How long the slowest body takes, and what it is."""
    return max((seconds_of(kind, body), f"{kind}, {shape}") for kind, shape, body in shapes())
