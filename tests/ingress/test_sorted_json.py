"""The scheme that signs a body with its keys sorted, and how it writes the body anew."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.signatures.sorted_json import parse_object, write_sorted
from ingress.signatures.verifier import Verdict
from schemas.providers.body import MAX_VALUES
from tests.ingress.signing import (
    BODY,
    MILLIS,
    NEW,
    PATH,
    SORTED,
    b64,
    mac,
    sign_alchemy_sorted,
    verify,
)


def test_alchemy_sorted_takes_the_signature_from_the_body() -> None:
    """Without the header the field `signature` counts, and is not itself signed; empties can be signed too."""
    signature = b64(mac(NEW, f"{MILLIS}POST{PATH}".encode() + SORTED))
    body = BODY[:-1] + b',"signature":"' + signature.encode() + b'"}'
    assert verify("alchemy-sorted", {"ach-access-timestamp": MILLIS}, body) is Verdict.VALID
    with_empties = b'{"a":"","b":1}'
    headers = sign_alchemy_sorted(NEW, with_empties)
    assert verify("alchemy-sorted", headers, b'{"b":1,"a":""}', drop_empty=False) is Verdict.VALID
    assert verify("alchemy-sorted", headers, b'{"b":1,"a":""}') is Verdict.BAD_SIGNATURE
    assert verify("alchemy-sorted", headers, b"[1]") is Verdict.MALFORMED


@pytest.mark.parametrize("unit", [b"0", b"null", b'"a"', b"[]", b'{"b":0}'])
def test_alchemy_sorted_reads_bodies_of_a_number_of_values(unit: bytes) -> None:
    """Anybody may send a body to be sorted, so one with more is malformed, whatever its signature: it took half a second."""

    def body(count: int) -> bytes:
        return b'{"a":[' + b",".join([unit] * count) + b"]}"

    most = (MAX_VALUES - 2) // (1 + unit.count(b"[") + unit.count(b"{"))
    assert verify("alchemy-sorted", sign_alchemy_sorted(NEW, body(most)), body(most)) is Verdict.VALID
    more = body(2 * most)
    assert verify("alchemy-sorted", sign_alchemy_sorted(NEW, more), more) is Verdict.MALFORMED


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=6) | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    )
)
def test_sorted_json_is_what_the_standard_library_writes(value: Any) -> None:
    """Where no number has another form; nested and empty containers included."""
    body = json.dumps({"a": value}).encode()
    with contextlib.suppress(UnicodeEncodeError):
        expected = json.dumps({"a": value}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert write_sorted(parse_object(body)) == expected


def test_sorted_json_of_a_deep_body_is_not_copied_once_a_level() -> None:
    """A long text below 300 levels costs what it costs at the top: 2 s before."""
    text = b'"' + "\N{GRINNING FACE}".encode() + b"x" * (1 << 20) + b'"'
    seconds = []
    for depth in (1, 300):
        body = b'{"a":' * depth + text + b"}" * depth
        began = time.process_time()
        assert write_sorted(parse_object(body)) == body
        seconds.append(time.process_time() - began)
    assert seconds[1] < 10 * seconds[0] + 0.05


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":NaN}', b'{"a":"\\ud800"}', b"\xff", b'{"a":' + b"9" * 9999]
)
def test_alchemy_sorted_refuses_what_it_cannot_write_anew(body: bytes) -> None:
    """Hostile JSON is a verdict, not a crash."""
    assert verify("alchemy-sorted", sign_alchemy_sorted(NEW), body) is Verdict.MALFORMED
