"""What the ingress reads of a body is what the intake reads of it: a difference would put a delivery into another partition."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from kybstream.settings import SourceKind
from schemas.providers.body import IDS, UnreadableBodyError, read_body
from schemas.providers.identity import identify, identify_bytes

KINDS: tuple[SourceKind, ...] = ("kyb-service", "kyc-registration")
PSEUDONYMISER = Pseudonymiser(b"k" * 32, 1)

RAW_VALUES = [
    "1e999",
    "NaN",
    "-Infinity",
    "9" * 4301,
    '"\\ud83d"',
    '"a\\ud83d"',
    '"\\ud83d\\ude00"',
    '"\\x"',
    '"\x01"',
    "01",
    "-",
    "1.",
    "[]",
    "{}",
    '[{"userNo": "inner"}]',
    '"\udcff"',
    '""',
    '" "',
    "true",
    "null",
    "12345678901234567890123",
    "1.5",
    '"' + "x" * 600 + '"',
    "[1e999]",
]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)).map(json.dumps)
VALUES = st.one_of(SCALARS, st.sampled_from(RAW_VALUES))
MEMBERS = st.lists(st.tuples(st.sampled_from([*IDS, "other", "service_id\\ud83d", "service\\u005fid"]), VALUES), max_size=6)


@given(MEMBERS, st.sampled_from(["", "\ufeff", " "]), st.sampled_from(["", "]", "}", " ", "\x00"]))
def test_the_ingress_and_the_intake_see_the_same_entity(members: list[tuple[str, str]], before: str, after: str) -> None:
    """Whatever the values are, repeated and unreadable ones included: of every body that can be read."""
    text = before + "{" + ",".join(f'"{name}": {value}' for name, value in members) + "}" + after
    body = text.encode("utf-8", "surrogateescape")
    try:
        content = read_body(body).content
    except UnreadableBodyError:
        return
    for kind in KINDS:
        assert identify_bytes(kind, body, PSEUDONYMISER) == identify(kind, content, PSEUDONYMISER)


def filled(unit: bytes, before: bytes = b'{"service_id":"x","a":[', after: bytes = b"]}") -> bytes:
    """A body of a mebibyte of the same again and again."""
    return before + b",".join([unit] * ((1024 * 1024 - 100) // (len(unit) + 1))) + after


@pytest.mark.parametrize(
    "body",
    [
        filled(b"[]"),
        filled(b"{}"),
        filled(b"[" * 90 + b"]" * 90),
        filled(b"[" * 400 + b"]" * 400),
        filled(b'"a"'),
        filled(b"1.5e300"),
        filled(b"0"),
        filled(b"9" * 4000),
        filled(b'"\\u00e9"'),
        filled(b"[]", b'{"service_id":[', b"]}"),
        filled(b'"k":1', b"{", b"}"),
        filled(b'"service_id":[]', b"{", b"}"),
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'{"service_id":"' + b"a" * 1_000_000 + b'"}',
    ],
    ids=lambda body: body[:30].decode() + f" {len(body)}",
)
def test_a_mebibyte_of_anything_is_looked_through_quickly(body: bytes) -> None:
    """Below the 50 ms that nothing may hold up the ingress for; read into objects it is up to seconds."""
    plain = b'{"service_id":"x","a":"' + b"a" * 1_000_000 + b'"}'

    def fastest(looked_at: bytes) -> float:
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            identify_bytes("kyb-service", looked_at, PSEUDONYMISER)
            taken.append(time.perf_counter() - started)
        return min(taken)

    assert fastest(body) < max(0.05, 40 * fastest(plain))
