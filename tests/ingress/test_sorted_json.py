"""The scheme that signs a body with its keys sorted, and how it writes the body anew."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.signatures.sorted_json import NotAnObjectError, parse_object, write_sorted
from ingress.signatures.unreadable_json import parse_marked, written_forms
from ingress.signatures.verifier import Verdict
from schemas.providers.body import MAX_VALUES
from schemas.providers.mending import MAX_UNREADABLE
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
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"[NaN]", b'{"a":NaN} x', b'{"a":"\\ud800}', b"\xff", b'{"a":' + b"9" * 9999]
)
def test_alchemy_sorted_refuses_what_it_cannot_write_anew(body: bytes) -> None:
    """Hostile JSON is a verdict, not a crash."""
    assert verify("alchemy-sorted", sign_alchemy_sorted(NEW), body) is Verdict.MALFORMED


_SMILE = "\N{GRINNING FACE}".encode()
FORMS = {
    rb'"ABC\ud83d"': {rb'"ABC\ud83d"', b'"ABC\xef\xbf\xbd"', b'"ABC?"'},
    rb'"\uDE00 \\ud83d \u00e9\n\ud83d\ude00"': {
        rb'"\uDE00 \\ud83d %b\n%b"' % (b"\xc3\xa9", _SMILE),
        rb'"%b \\ud83d %b\n%b"' % (b"\xef\xbf\xbd", b"\xc3\xa9", _SMILE),
        rb'"? \\ud83d %b\n%b"' % (b"\xc3\xa9", _SMILE),
    },
    b'"M\xfcller"': {b'"M\xfcller"', b'"M\xef\xbf\xbdller"', b'"M\xc3\xbcller"'},
    b'"cut \xf0\x9f"': {b'"cut \xf0\x9f"', b'"cut \xef\xbf\xbd"', b'"cut \xc3\xb0\xc2\x9f"'},
    b'"two\nlines\x01"': {b'"two\nlines\x01"', rb'"two\nlines\u0001"'},
    rb'"O\'Neil"': {rb'"O\'Neil"'},
    rb'"cut \u12"': {rb'"cut \u12"'},
    b"NaN": {b"NaN"},
    b"-Infinity": {b"-Infinity"},
    b"1e999": {b"1e999"},
    b'{"z":"\x01","a":[NaN,"\xff"]}': {b'{"a":[NaN,"\xff"],"z":"\x01"}', b'{"a":[NaN,"%b"],"z":"\\u0001"}' % b"\xef\xbf\xbd"},
}
"""A value, and how it may be signed."""


@pytest.mark.parametrize("value", FORMS, ids=repr)
def test_a_value_that_cannot_be_read_costs_no_result(value: bytes) -> None:
    """The forms in which its sender may have signed it are tried; no other form is accepted, and no other content."""
    body = b'{"userNo": "1", "kycStatus": 2, "dob": %b, "firstName": %b}' % (value, value)
    for form in FORMS[value]:
        headers = sign_alchemy_sorted(NEW, b'{"firstName":%b,"kycStatus":2,"userNo":"1"}' % form)
        assert verify("alchemy-sorted", headers, body) is Verdict.VALID, form
        assert verify("alchemy-sorted", headers, body.replace(b": 2", b": 1")) is Verdict.BAD_SIGNATURE
        assert verify("alchemy-sorted", headers, b"\xef\xbb\xbf" + body) is Verdict.VALID
        in_body = body.replace(b"{", b'{"signature": "%b",' % headers["ach-access-sign"].encode(), 1)
        assert verify("alchemy-sorted", {"ach-access-timestamp": MILLIS}, in_body) is Verdict.VALID
    for wrong in (b'"ABC"', b'""', b"null", b'"ABC??"'):
        headers = sign_alchemy_sorted(NEW, b'{"firstName":%b,"kycStatus":2,"userNo":"1"}' % wrong)
        assert verify("alchemy-sorted", headers, body) is Verdict.BAD_SIGNATURE


@given(
    st.recursive(
        st.none() | st.text(max_size=6) | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    )
)
def test_what_can_be_read_beside_it_is_written_as_ever(value: Any) -> None:
    """In each form, whatever stands beside the value that cannot be read."""
    body = json.dumps({"a": value, "b": "MARK"}).encode()
    with contextlib.suppress(NotAnObjectError):
        plain = write_sorted(parse_object(body))
        forms = written_forms(parse_marked(body.replace(b"MARK", rb"\ud83d")))
        expected = {plain.replace(b"MARK", form) for form in (rb"\ud83d", b"\xef\xbf\xbd", b"?")}
        assert set(forms) == expected
        assert written_forms(parse_marked(body)) == (plain,)


_RUINS = st.sampled_from(
    [
        rb"\ud83d",
        rb"\uDE00",
        rb"\u1",
        rb"\\",
        rb"\"",
        rb"\n",
        b"\xff",
        b"\xed\xa0\xbd",
        b"\xf0\x9f",
        b"\n",
        b"\x01",
        b"a",
        b"\xc3\xa9",
    ]
)


@given(texts=st.lists(st.lists(_RUINS, max_size=6).map(b"".join), min_size=3, max_size=3))
def test_whatever_stands_between_quotes_may_be_signed_as_sent(texts: list[bytes]) -> None:
    """Its sender wrote the body and what it signed alike; escapes that can be read are written as ever."""
    one, other, third = texts
    plain = b'{"a":"%b","b":["%b"],"c":{"z":"%b"}}' % (one, other, third)
    as_sent = plain.replace(rb"\ud83d\uDE00", _SMILE)
    headers = sign_alchemy_sorted(NEW, as_sent)
    assert verify("alchemy-sorted", headers, plain, drop_empty=False) is Verdict.VALID
    assert verify("alchemy-sorted", headers, plain.replace(b'"z"', b'"y"'), drop_empty=False) is Verdict.BAD_SIGNATURE


@pytest.mark.parametrize(
    "odd", [rb"\ud83d", rb"\x", b"\xff", b"\x01", b"\xff\x01"], ids=["halves", "escapes", "bytes", "controls", "both"]
)
def test_the_values_that_cannot_be_read_are_bounded(odd: bytes) -> None:
    """Ten thousand: anybody may send a body to be sorted."""
    few, many = (b'{"a":"%b"}' % (odd * count) for count in (MAX_UNREADABLE - 1, MAX_UNREADABLE + 1))
    assert verify("alchemy-sorted", sign_alchemy_sorted(NEW, few), few) is Verdict.VALID
    assert verify("alchemy-sorted", sign_alchemy_sorted(NEW, many), many) is Verdict.MALFORMED


@pytest.mark.parametrize(
    "content",
    [
        b'"' + _SMILE * 200_000 + b'"',
        b"[" + b",".join([b'"' + b"a" * 48 + b'"'] * 19_000) + b"]",
        b"{" + b",".join(b'"%045d":0' % (number * 7919 % 19_000) for number in range(19_000)) + b"}",
        b'"' + rb"\n" * 500_000 + b'"',
        b'"' + rb"\\" * 500_000 + b'"',
        b'"' + b"\xff" * 1_000_000 + b'"',
        b'"' + (rb"\ud83d" + b"\x01\xff" + _SMILE * 20) * 9_900 + b'"',
    ],
    ids=["one text", "texts", "names", "escapes", "backslashes", "bytes", "all kinds"],
)
def test_a_hostile_mebibyte_is_sorted_in_little_time(content: bytes) -> None:
    """Before anybody is authenticated, 0.1 s or less: below forty times what the standard library takes for plain JSON."""
    plain = json.dumps({"a": ["a" * 48] * 19_000})
    limit = 40 * min(_seconds(lambda: json.dumps(json.loads(plain))) for _ in range(3))
    body = b'{"a":%b,"x":"\\ud83d"}' % content
    assert min(_seconds(lambda: verify("alchemy-sorted", sign_alchemy_sorted(NEW), body)) for _ in range(3)) < limit


def _seconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began
