"""A JSON text in which something cannot be read keeps the promises of plain JSON, and so does a form."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from schemas.providers.body import Reading, read_body, read_ids
from schemas.providers.formats import read_sent
from schemas.providers.identity import Identity, identify_bytes
from schemas.providers.mending import MAX_UNREADABLE
from schemas.topics import entity_key
from tests.streams.pipeline import PSEUDONYMISER, Door, run_intake

ODD = "\N{REPLACEMENT CHARACTER}"
MIB = 1024 * 1024
TEXT = rb'"{\"userNo\":\"id-%b-\",\"service_id\":\"id-%b-\",\"kycStatus\":2}"'
FORM = b'payload={"userNo":"id-%b-","service_id":"id-%b-","kycStatus":2}'
_BROKEN = [rb"\ud83d", rb"\ude00", rb"\u1", rb"\x", rb"\xff", rb"\'", rb"\\", b"\\\xff"]
_ONCE = [*_BROKEN, b"\xff", b"\x80", b"\xf0\x9f", b"\x01", b"a"]
_TWICE = [piece.replace(b"\\", b"\\\\") for piece in _BROKEN]
# Not the second half: the text's own pair and the pair in the JSON are the same character.
_IN_TEXTS = st.lists(st.sampled_from([*(piece for piece in _ONCE if piece not in {rb"\ude00", rb"\\"}), *_TWICE]), max_size=4)
_IN_FORMS = st.lists(st.sampled_from(_ONCE), max_size=4)


def both(body: bytes, body_format: str) -> list[Identity | None]:
    """The company and the person that the ingress finds in a body."""
    return [identify_bytes(kind, body, PSEUDONYMISER, body_format) for kind in ("kyb-service", "kyc-registration")]


def plain(piece: bytes, layers: int) -> str | None:
    """What stands between the quotes, if all of it can be read."""
    try:
        for _ in range(layers):
            piece = msgspec.json.decode(b'"%b"' % piece, type=str).encode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return piece.decode()


@given(one=_IN_TEXTS.map(b"".join), other=_IN_TEXTS.map(b"".join))
@example(one=rb"\ud83d", other=rb"\ud83e")
@example(one=rb"\ud83d", other=rb"\\ud83d")
@example(one=b"\xff", other=b"\xfe")
@example(one=b"\\\xff", other=b"\xff")
@example(one=rb"\x", other=rb"\\x")
@settings(max_examples=300, deadline=None)
def test_two_ids_in_a_text_that_differ_never_become_one(one: bytes, other: bytes) -> None:
    """Of companies and of persons, whether the text or the JSON in it is what cannot be read."""
    same = one == other or plain(one, 2) == plain(other, 2) is not None
    found = [both(TEXT % (piece, piece), "json-text") for piece in (one, other)]
    assert None not in (*found[0], *found[1])
    assert [first == second for first, second in zip(*found, strict=True)] == [same, same]


@given(one=_IN_FORMS.map(b"".join), other=_IN_FORMS.map(b"".join))
@settings(max_examples=100, deadline=None)
def test_two_ids_in_a_form_that_differ_never_become_one(one: bytes, other: bytes) -> None:
    """They are those of plain JSON, escaped or not."""
    for piece in (one, other):
        body = FORM % (piece, piece)
        quoted = b"payload=" + b"".join(b"%%%02x" % byte for byte in body.removeprefix(b"payload="))
        expected = both(body.removeprefix(b"payload="), None)  # type: ignore[arg-type]
        assert both(body, "form:payload") == both(quoted, "form:payload") == expected
    same = one == other or plain(one, 1) == plain(other, 1) is not None
    assert (both(FORM % (one, one), "form:payload") == both(FORM % (other, other), "form:payload")) == same


@given(piece=_IN_TEXTS.map(b"".join), body_format=st.sampled_from(["json-text", "form:payload"]))
@settings(max_examples=100, deadline=None)
def test_an_unreadable_id_is_told_by_the_worker_under_the_key_of_the_ingress(piece: bytes, body_format: str) -> None:
    """The event names the field, and the ingress and the intake read the same."""
    body = TEXT % (piece, b"") if body_format == "json-text" else FORM % (piece, b"")
    identity = identify_bytes("kyc-registration", body, PSEUDONYMISER, body_format)
    assert identity is not None
    door = Door()
    sent = door.delivery(body, body_format=body_format, source_kind="kyc-registration")
    sent = msgspec.structs.replace(sent, entity_key=entity_key("acme", identity.entity))
    told = run_intake([door.record(sent)])
    assert not told.dead_letters
    (event,) = told.events
    unreadable = plain(piece, 2 if body_format == "json-text" else 1) is None
    assert ("unreadable:userNo" in event.violations) == unreadable


@pytest.mark.parametrize(
    ("piece", "read"),
    [
        (rb"\ud83d", ODD),
        (rb"\\ud83d", ODD),
        (rb"\ud83d\\ude00", ODD * 2),
        (rb"\ud83d\ude00", "\N{GRINNING FACE}"),
        (rb"\\ud83d\\ude00", "\N{GRINNING FACE}"),
        (rb"\x", f"{ODD}x"),
        (rb"\u00", f"{ODD}u00"),
        (b"\xff\xfe", ODD * 2),
        (b"M\xfcller \xc3\xbc", f"M{ODD}ller \xfc"),
        (b"\x01", ODD),
        (rb"\u0001", ODD),
        (b"\xef\xbf\xbd", ODD),
    ],
)
def test_what_cannot_be_read_in_a_text_is_replaced_and_its_field_named(piece: bytes, read: str) -> None:
    """One U+FFFD for each escape, what is around it stays, and U+FFFD as it was sent is no violation."""
    found = read_sent(read_body, rb'"{\"a\":\"%b|\",\"b\":1e5}"' % piece, "json-text", None)
    sound = piece.startswith((b"\xef", rb"\ud83d\u", rb"\\ud83d\\u"))
    assert found == Reading({"a": f"{read}|", "b": 1e5}, () if sound else ("a",))


def test_a_line_break_in_a_text_is_a_line_break() -> None:
    """Between values of the JSON it is white space."""
    found = read_sent(read_body, b'"{\n\\"a\\":\t1}\r\n"', "json-text", None)
    assert found == Reading({"a": 1})


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["none", "outside"])
@pytest.mark.parametrize("inner", [b"", b"\xef\xbb\xbf"], ids=["none", "inside"])
@pytest.mark.parametrize("odd", [b"", rb"\ud83d"], ids=["sound", "odd"])
def test_a_byte_order_mark_is_passed_over(mark: bytes, inner: bytes, odd: bytes) -> None:
    """Before the body, and before the JSON in it."""
    for body_format, body in (
        ("json-text", rb'"%b{\"service_id\":\"1\",\"a\":\"%b\"}"' % (inner, odd)),
        ("form:payload", b'payload=%b{"service_id":"1","a":"%b"}' % (inner, odd)),
    ):
        assert read_sent(read_ids, mark + body, body_format, None) == {"service_id": "1"}
        assert read_sent(read_body, mark + body, body_format, None).content["service_id"] == "1"


@pytest.mark.parametrize(("times", "is_told"), [(MAX_UNREADABLE // 2 - 10, True), (MAX_UNREADABLE + 1, False)])
def test_an_id_in_a_text_full_of_noise_stays_unread(times: int, is_told: bool) -> None:  # noqa: FBT001 - a row
    """At the ingress and in the intake alike, and whatever the noise is followed by."""
    body = TEXT % (b"\\ud83d\x80", b"x" + b"\xff" * times)
    found = read_sent(read_ids, body, "json-text", None)
    content = read_sent(read_body, body, "json-text", None).content
    assert (found["userNo"], found["service_id"]) == (content["userNo"], content["service_id"])
    assert (found["userNo"] is not None) == (found["service_id"] is not None) == is_told


@pytest.mark.parametrize(
    "unit",
    [rb"\ud83d", b"\xff", b"\xf1", b"\x01", rb"\n", rb"\u00e9", rb"\\\\", rb"\\\"", rb"\\ud83d", b"\xf0\x9f\x98\x80"],
    ids=str,
)
@pytest.mark.parametrize("share", [1, 200])
def test_a_hostile_mebibyte_in_a_text_takes_no_longer_than_others(unit: bytes, share: int) -> None:
    """Linear: none of them takes ten times what a sound text of a mebibyte takes that is as full of escapes."""
    times = MIB // len(unit) // share
    body = TEXT % (rb"\ud83d", b"a" * (MIB - times * len(unit)) + unit * times)
    sound = TEXT % (b"", rb"\u00e9\n" * (MIB // 8))
    limit = 10 * min(_seconds(sound) for _ in range(3))
    assert min(_seconds(body) for _ in range(3)) < limit


def _seconds(body: bytes) -> float:
    began = time.process_time()
    identify_bytes("kyb-service", body, Pseudonymiser(b"k" * 16), "json-text")
    return time.process_time() - began
