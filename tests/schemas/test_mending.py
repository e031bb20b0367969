"""Bodies of which a value cannot be read: what is read, what is told, and what stays unreadable."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from schemas.providers import body as reading
from schemas.providers.body import MAX_VALUES, Reading, UnreadableBodyError, canonical_digest, read_body, read_ids
from schemas.providers.identity import identify_bytes
from schemas.providers.mending import MAX_ODD_NUMBERS, MAX_QUOTES, MAX_UNREADABLE, mend

ODD = "\N{REPLACEMENT CHARACTER}"
PSEUDONYMISER = Pseudonymiser(b"pseudonym-key-of-acme")
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (rb'"ABC\ud83d"', f"ABC{ODD}"),
        (rb'"\uDE00\uD83D"', ODD * 2),
        (rb'"\ude00 is low"', f"{ODD} is low"),
        (rb'"\ud83d\ud83d\ude00\ude00"', f"{ODD}\N{GRINNING FACE}{ODD}"),
        (rb'"\\ud83d\ude00"', rf"\ud83d{ODD}"),
        (rb'"\\\ud83d\\"', f"\\{ODD}\\"),
        (rb'"cut \ud8"', f"cut {ODD}ud8"),
        (rb'"cut \u"', f"cut {ODD}u"),
        (rb'"O\'Neil"', f"O{ODD}'Neil"),
        (b'"M\xfcller"', f"M{ODD}ller"),
        (b'"\xed\xa0\xbd"', ODD * 3),
        (b'"\xc0\xaf"', ODD * 2),
        (b'"cut \xf0\x9f"', f"cut {ODD}"),
        (b'"two\nlines\x00"', f"two{ODD}lines{ODD}"),
        (b"1e999", None),
        (b"-1e999", None),
        (b"1E+400", None),
        (b"0.1e400", None),
        (b"1.8e308", None),
        (b"NaN", None),
        (b"-NaN", None),
        (b"Infinity", None),
        (b"-Infinity", None),
        (b"9" * 4301, None),
        (b"-" + b"9" * 100_000 + b".5", None),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_an_unreadable_value_is_replaced_and_its_field_named(value: bytes, read: str | None) -> None:
    """At the top, in a list, in an object, and beside texts that only look like it; what is around it stays."""
    around = rb'"other": "1e999, \"NaN\" \\ud800", "n": [1e308, -0.5e-999, 12]'
    (expected,) = json.loads(b"[{" + around + b"}]")
    found = read_body(b'{"a": %b, %b}' % (value, around))
    assert found == Reading({"a": read, **expected}, ("a",))
    found = read_body(b'\xef\xbb\xbf{%b, "a": {"b": [0, %b]}, "c": 1}' % (around, value))
    assert found == Reading({**expected, "a": {"b": [0, read]}, "c": 1}, ("a",))
    assert len(canonical_digest(found.content)) == 64


def test_an_unreadable_name_is_replaced() -> None:
    """The field that it names is told with it."""
    assert read_body(rb'{"na\ud83dme": 1, "b": 2}') == Reading({f"na{ODD}me": 1, "b": 2}, (f"na{ODD}me",))


@pytest.mark.parametrize(
    "wrong",
    [
        b"{%b,}",
        b"{%b} {}",
        b"{%b} NaN",
        b'{%b, "b": nan}',
        b'{%b, "b": +1e999}',
        b'{%b, "b": .5}',
        b'{%b, "b": 01e999}',
        b'{%b, "b": 1e999.5}',
        b'{%b, "b": NaNs}',
        b"{%b, 'b': 1}",
        b"{%b, b: 1}",
        b'{%b "b": 1}',
        b'{%b, "b": "',
        b'{%b, "b": \xff}',
        b'{%b, "b": \x00}',
        b"{%b} // done",
    ],
)  # fmt: skip
def test_the_structure_is_never_repaired(wrong: bytes) -> None:
    """Neither alone nor beside something that is mended."""
    for beside in (b'"a": 1', rb'"a": "\ud83d"', b'"a": 1e999'):
        with pytest.raises(UnreadableBodyError) as refused:
            read_body(wrong % beside)
        assert refused.value.reason == "not_json"


@given(content=st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
@settings(max_examples=50, deadline=None)
def test_a_sound_body_is_read_as_ever(content: dict[str, Any]) -> None:
    """Without a second look: nothing is mended that is not broken."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reading, "mend", None)
        assert read_body(json.dumps(content).encode()) == Reading(content)


_RUINS = st.sampled_from(
    [
        *(rb"\ud83d", rb"\ude00", rb"\u1", rb"\\", rb"\"", b"\xff", b"\xed\xa0\xbd", b"\n", b"a", b"1e999", b"NaN"),
        *(rb"\x", rb"\xff", rb"\'", b"\\\xff", b"\\\x01", rb"\u005cx"),
    ]
)


@given(texts=st.lists(st.lists(_RUINS, max_size=6).map(b"".join), min_size=4, max_size=4))
@settings(max_examples=200, deadline=None)
def test_whatever_stands_between_quotes_a_body_is_read(texts: list[bytes]) -> None:
    """No content of a text makes a body unreadable or changes the fields beside it, and all of it can be written again."""
    found = read_body(b'{"a": "%b", "kycStatus": 2, "b": ["%b"], "c%b": {"%b": 1}}' % tuple(texts))
    assert found.content["kycStatus"] == 2
    msgspec.json.encode(found.content).decode()


@given(one=st.lists(_RUINS, max_size=4).map(b"".join), other=st.lists(_RUINS, max_size=4).map(b"".join))
@example(one=rb"\xff", other=b"\xff")
@example(one=b"\\\xff", other=b"\xff")
@example(one=b"\xff\\\\a", other=rb"\xff\a")
@settings(max_examples=200, deadline=None)
def test_two_ids_that_differ_never_become_one(one: bytes, other: bytes) -> None:
    """Of companies and of persons: nobody is matched because a letter of his id could not be read."""
    for kind, name in (("kyb-service", "service_id"), ("kyc-registration", "userNo")):
        first, second = (
            identify_bytes(kind, b'{"%b": "id-%b"}' % (name.encode(), text), PSEUDONYMISER)  # type: ignore[arg-type]
            for text in (one, other)
        )
        assert first is not None
        same = one == other or _plain(one) == _plain(other) is not None
        assert (first == second) == same


def _plain(text: bytes) -> str | None:
    """What a text says if nothing of it is unreadable."""
    try:
        return str(msgspec.json.decode(b'"%b"' % text))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def test_an_id_of_which_nothing_can_be_read_names_nobody() -> None:
    """Half of an id does."""
    assert identify_bytes("kyb-service", rb'{"service_id": "\ud83d"}', PSEUDONYMISER) is None
    found = identify_bytes("kyb-service", rb'{"service_id": "667a\ud83d"}', PSEUDONYMISER)
    assert found is not None
    assert found.entity == r"667a\ud83d"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "%b"}' % (rb"\ud83d" * MAX_UNREADABLE),
        b'{"a": [%b 1]}' % (b"1e999, " * (MAX_ODD_NUMBERS + 1)),
        b'{"x": NaN, "a": [%b""]}' % (b'"",' * 100_000),
    ],
    ids=["texts", "numbers", "quotes"],
)
def test_noise_is_not_mended(body: bytes) -> None:
    """What cannot be read is one value or a few thousand, not the body."""
    with pytest.raises(UnreadableBodyError):
        read_body(body)


def _filled(part: bytes) -> bytes:
    return b'{"x": NaN, "a": [%b1]}' % (part * ((MIB - 40) // len(part)))


@pytest.mark.parametrize(
    "body",
    [
        _filled(b"1,"),
        _filled(b"1e999,"),
        _filled(b"9" * 308 + b","),
        _filled(b'"",'),
        b'{"a": "%b"}' % (rb"\ud83d" * 170_000),
        b'{"a": "%b"}' % (b"\xff" * MIB),
        b'{"a": "%b"}' % (b"\x01" * MIB),
        b'{"a": "%b"}' % (rb"\\" * 500_000 + rb"\ud83d"),
        b'{"a": %b' % (b'"' * MIB),
        b'{"a": %b' % (b"-" * MIB),
        b'{"a": %b' % (b"9" * MIB),
    ],
    ids=["numbers", "out of range", "long", "texts", "halves", "bytes", "controls", "backslashes", "quotes", "signs", "digits"],
)
def test_a_hostile_mebibyte_takes_no_longer_than_others(body: bytes) -> None:
    """Linear: none of them takes ten times what reading a plain list of a mebibyte by the standard library takes."""
    plain = b"[%b1]" % (b"1,2.5," * (MIB // 6))
    limit = 10 * min(_seconds(lambda: json.loads(plain)) for _ in range(3))
    assert min(_seconds(lambda: identify_bytes("kyb-service", body, PSEUDONYMISER)) for _ in range(3)) < limit


_SLOW = (
    b"9e307",
    b"1.5e300",
    b"-1.5E+100",
    b"2.2250738585072011e-308",
    b"9007199254740993.00000000000000001e-300",
    b"17976931348623157" + b"0" * 292 + b".5",
    b"0." + b"0" * 290 + b"4" * 60,
)
"""Numbers that some readers of decimals take 20 us for."""


@pytest.mark.parametrize("size", [60 * 1024, MIB], ids=["60 KiB", "1 MiB"])
@pytest.mark.parametrize("last", [b'"1"', rb'"1\ud83d"'], ids=["readable", "unreadable"])
@pytest.mark.parametrize("number", _SLOW, ids=lambda number: number[:24].decode())
def test_no_number_takes_long_to_read(number: bytes, last: bytes, size: int) -> None:
    """Whatever its digits and its exponent, in a body of any size, readable or not: it was 20 us each, up to three times."""
    count = min(MAX_VALUES - 10, (size - 100) // (len(number) + 1))
    body = b'{"x": [%b], "userNo": %b}' % (b",".join([number] * count), last)
    assert read_body(body).content["x"] == [float(number)] * count
    limit = 0.1 * size / MIB + count * 10e-6
    for read in (read_body, read_ids):
        assert min(_seconds(lambda read=read: read(body)) for _ in range(3)) < limit


_NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)


@given(numbers=st.lists(_NUMBERS, min_size=1, max_size=20), times=st.sampled_from([1, 500]), odd=st.sampled_from(["", "NaN"]))
@settings(max_examples=100, deadline=None)
def test_numbers_are_what_the_standard_library_reads(numbers: list[str], times: int, odd: str) -> None:
    """In bodies of any size, and beside a number that cannot be read."""
    texts = [odd] * bool(odd) + numbers * times
    found = read_body(b'{"a": [%b]}' % ",".join(texts).encode())
    assert found.content["a"] == [None] * bool(odd) + [json.loads(number) for number in numbers] * times
    assert found.unreadable == ("a",) * bool(odd)


def _seconds(act: Any) -> float:
    started = time.process_time()
    act()
    return time.process_time() - started


@pytest.mark.parametrize("odd", [b"\x01", b"\xff"], ids=["control characters", "no UTF-8"])
@pytest.mark.parametrize(
    "template", [b'{"service_id": "A%b"}', b'{"service_id": "A\x01", "x": "%b"}'], ids=["in it", "beside it"]
)
def test_an_id_in_a_body_full_of_noise_stays_unread(template: bytes, odd: bytes) -> None:
    """At the ingress and in the intake alike: to tell such ids apart took a second a mebibyte. Few such characters are told."""
    few = template % (odd * (MAX_UNREADABLE - 1))
    assert read_ids(few)["service_id"] == read_body(few).content["service_id"] is not None
    much = template % (odd * (MAX_UNREADABLE + 1))
    assert read_ids(much).get("service_id") is read_body(much).content["service_id"] is None


def test_an_id_that_is_the_replacement_character_is_an_id() -> None:
    """As it was sent, beside something that cannot be read: the ingress and the intake read the same."""
    body = '{"userNo": "1", "merchantNo": "\N{REPLACEMENT CHARACTER}", "x": 1e999}'.encode()
    assert read_ids(body)["merchantNo"] == read_body(body).content["merchantNo"] == "\N{REPLACEMENT CHARACTER}"


def test_an_id_with_a_backslash_is_the_same_beside_something_unreadable() -> None:
    """Whether it holds U+FFFD or not, and whatever the other fields are."""
    for text in (rb"a\\b", rb"a\\b\ufffd", rb"\\", rb"a\u005cb\ufffd"):
        alone, beside = (b'{"userNo": "%b", "x": %b}' % (text, x) for x in (b"1", rb'"\ud83d"'))
        assert read_ids(alone)["userNo"] == read_ids(beside)["userNo"] == read_body(beside).content["userNo"]


def test_a_body_full_of_quotes_is_not_taken_apart() -> None:
    """Also where it is to be mended before anything is counted."""
    assert mend(b'"1"' * MAX_QUOTES) is None
    assert mend(b'"1"' * (MAX_QUOTES // 2)) is not None
