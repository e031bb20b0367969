"""The body of 1 MiB that costs the pure core most: reading, intake and case, of many shapes."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from bench.tables import DictTable
from kybstream.privacy import Pseudonymiser
from schemas.codec import encode
from schemas.providers import kyb, kyc
from schemas.providers.body import MAX_VALUES
from schemas.providers.identity import identify_bytes
from schemas.records import WebhookDelivery
from schemas.topics import entity_key
from streams.batching.records import Record as KafkaRecord
from streams.policy import TenantPolicy
from streams.processing import CasesProcess, IntakeProcess, TopicNames

SIZE = 1 << 20
SMALL = 64 * 1024
RUNS = 5
CANDIDATES = 20
NAMES = TopicNames("kyb.")
PSEUDONYMISER = Pseudonymiser(b"k" * 32)
POLICIES = {"acme": TenantPolicy(PSEUDONYMISER, (b"t" * 32,))}

_UNITS = (b"0", b"1.5e300", b'"a"', b'"%d"', b"[]", b"{}", b'{"code":"A%d"}', b"[[[[0]]]]", b'"\\u00e9"', b"9" * 400, b"null")
_NUMBERS = (
    b"9e307",
    b"-1.5e+100",
    b"2.2250738585072011e-308",
    b"9007199254740993.00000000000000001e-300",
    b"9007199254740993." + b"0" * 30 + b"1",
    b"17976931348623157" + b"0" * 292 + b".5",
    b"0." + b"0" * 290 + b"4" * 60,
)
"""Numbers that readers of decimals take long for: long ones, halfway ones, great and small exponents."""
_LAST = ((b"", ""), (rb',"merchantNo":"A\ud83d"', " before an unreadable id"))
_MEMBERS = (b'"%d":null', b'"%d":"x"', b'"%d":[]', b'"\\u00e9%d":0')
_TEXTS = ("x", "a b ", "\N{LATIN SMALL LETTER E WITH ACUTE}", "c1.", "\\n", "&a=1", "%41", '\\"', "1e99,")
_ODD = (b'"\\ud83d"', b"1e999", b"NaN", b'"\x01"', b'"\xff"', b'"\\x"')
"""Values that make a body one to be mended."""
_VALUES = (MAX_VALUES - 100, SIZE)
"""As many as a body may have, and as many as there is room for."""


def shapes() -> Iterator[tuple[str, str, bytes]]:
    """The kind of source, what the body is, and the body."""
    for kind, entity, fields in (
        ("kyb-service", "service_id", sorted(kyb.DOCUMENT.keys() - {"service_id"})),
        ("kyc-registration", "userNo", sorted(kyc.DOCUMENT.keys() - {"userNo"})),
    ):
        begin = b'{"' + entity.encode() + b'":'
        for of, body in _ids(begin):
            yield kind, of, body
        begin += b'"1",'
        yield from _numbers(kind, begin)
        for most in _VALUES:
            for unit in _MEMBERS:
                yield kind, f"members {unit.decode()}", _padded(begin, _many(unit, most), b"}")
        for odd in (b"", *_ODD):
            some = begin + (b'"odd":' + odd + b"," if odd else b"")
            beside = f" beside {odd.decode('latin-1')!r}" if odd else ""
            for name in (*fields, "other") if not odd else ("other",):
                field = some + b'"' + name.encode() + b'":'
                for text in _TEXTS:
                    count = (SIZE - 200) // len(text.encode())
                    yield (
                        kind,
                        f"{name} text of {text!r}{beside}",
                        field + b'"' + text.encode() * count + b'"}',
                    )
                for most in _VALUES if name == "other" else _VALUES[:1]:
                    for unit in (*_UNITS, *((odd,) if odd else ())):
                        body = _padded(field + b"[", _many(unit, most), b"]}")
                        yield kind, f"{name} list of {unit[:20].decode('latin-1')!r}{beside}", body
                yield kind, f"{name} object{beside}", _padded(field + b"{", _many(b'"%d":0', MAX_VALUES - 100), b"}}")


def small_shapes() -> Iterator[tuple[str, str, bytes]]:
    """As `shapes`, of `SMALL` bytes: lists of values, alone and with an id behind them that cannot be read."""
    for kind, begin in (("kyb-service", b'{"service_id":"1",'), ("kyc-registration", b'{"userNo":"1",')):
        for unit, (last, what) in itertools.product((*_NUMBERS, *_UNITS), _LAST):
            content = _many(unit, MAX_VALUES - 100, SMALL)
            yield kind, f"list of {unit[:24].decode()!r}{what}", begin + b'"other":[' + content + b"]" + last + b"}"


def _numbers(kind: str, begin: bytes) -> Iterator[tuple[str, str, bytes]]:
    for unit, (last, what) in itertools.product(_NUMBERS, _LAST):
        body = _padded(begin + b'"other":[', _many(unit, MAX_VALUES - 100), b"]" + last + b"}")
        yield kind, f"other list of {unit[:24].decode()!r}{what}", body


def _ids(begin: bytes) -> Iterator[tuple[str, bytes]]:
    for digits in (b"9", b"0.9", b"1e9"):
        yield f"id of {digits.decode()}99...", begin + digits + b"9" * (SIZE - 200) + b"}"
    for odd in (b"\x01", b"\xff", rb"\ud83d"):
        yield f"id of {odd!r}", begin + b'"A' + odd * ((SIZE - 200) // len(odd)) + b'"}'


def _many(unit: bytes, most: int, size: int = SIZE) -> bytes:
    room = (size - 200) // (len(unit) + 1 + (6 if b"%d" in unit else 0))
    count = min(room, most // (1 + unit.count(b"[") + unit.count(b"{")))
    return b",".join([unit % number for number in range(count)] if b"%d" in unit else [unit] * count)


def _padded(begin: bytes, content: bytes, end: bytes) -> bytes:
    room = SIZE - 200 - len(content)
    pad = b'"pad":"' + b"x" * room + b'",' if room > 0 else b""
    return begin.replace(b",", b"," + pad, 1) + content + end


def seconds_of(kind: str, body: bytes, runs: int) -> float:
    """The shortest CPU time of some runs from the raw record to the snapshot."""
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
    for _ in range(runs):
        began = time.process_time()
        outputs = intake(0, [record], DictTable()).outputs
        told = [
            KafkaRecord(each.topic, 0, 0, 0, each.key, each.value, ()) for each in outputs if each.topic == NAMES.case_events
        ]
        cases(0, told, DictTable())
        times.append(time.process_time() - began)
    return min(times)


def worst_body() -> tuple[float, str]:
    """How long the slowest body takes, and what it is: all shapes are run once, and what seems slow again."""
    return _slowest(shapes())


def worst_small_body() -> tuple[float, str]:
    """As `worst_body`, of a body of `SMALL` bytes, as large as any that the links API takes."""
    return _slowest(small_shapes())


def _slowest(bodies: Iterator[tuple[str, str, bytes]]) -> tuple[float, str]:
    slowest = heapq.nlargest(CANDIDATES, bodies, key=lambda given: seconds_of(given[0], given[2], 1))
    return max((seconds_of(kind, body, RUNS), f"{kind}, {shape}") for kind, shape, body in slowest)
