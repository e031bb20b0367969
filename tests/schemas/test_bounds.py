"""What a sender controls of a body has a bound where it becomes part of an event: cut or counted, and said."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from schemas.providers import kyb, kyc
from schemas.providers.body import MAX_VALUES, UnreadableBodyError, read_body, read_ids
from schemas.providers.fields import MAX_CODE_BYTES, MAX_NAME_BYTES, MAX_TEXT_LENGTH, cut_code, cut_text
from schemas.providers.identity import MAX_SERVICE_ID_LENGTH
from schemas.providers.kyb import KybFacts, read_kyb
from schemas.providers.kyc import KycFacts, read_kyc

RECEIVED = datetime(2026, 3, 1, tzinfo=UTC)
PSEUDONYMISER = Pseudonymiser(b"pseudonym-key-of-acme")
MEBIBYTE = 1 << 20
FACTS_BYTES = 64 * 1024
"""What the facts of one body may take at most as JSON, whatever the body holds."""


def read(kind: str, **fields: Any) -> KybFacts | KycFacts:
    """The facts of a body with these fields."""
    return read_kyb(fields, RECEIVED) if kind == "kyb" else read_kyc(fields, PSEUDONYMISER)


TEXTS = [
    ("kyb", "type", MAX_CODE_BYTES),
    ("kyb", "status", MAX_CODE_BYTES),
    ("kyb", "uid", MAX_TEXT_LENGTH),
    ("kyb", "document_name", MAX_TEXT_LENGTH),
    ("kyb", "kyb_backoffice_id", MAX_TEXT_LENGTH),
    ("kyc", "kycType", MAX_CODE_BYTES),
    ("kyc", "kycLevel", MAX_CODE_BYTES),
    ("kyc", "kycStatus", MAX_CODE_BYTES),
    ("kyc", "idDocType", MAX_TEXT_LENGTH),
    ("kyc", "kycPlatform", MAX_TEXT_LENGTH),
    ("kyc", "country", MAX_TEXT_LENGTH),
    ("kyc", "merchantNo", MAX_TEXT_LENGTH),
]
NAMES = {"kycType": "kyc_type", "kycLevel": "kyc_level", "kycStatus": "status", "idDocType": "id_doc_type"}
NAMES |= {"kycPlatform": "kyc_platform", "merchantNo": "merchant_no"}


@pytest.mark.parametrize(("kind", "name", "longest"), TEXTS, ids=[name for _, name, _ in TEXTS])
def test_a_text_beyond_its_bound_is_cut_and_still_its_own(kind: str, name: str, longest: int) -> None:
    """A mebibyte leaves a short value and a violation; another mebibyte, equal but for its end, leaves another value."""
    one, other = (read(kind, **{name: "x" * MEBIBYTE + end}) for end in ("a", "b"))
    values = [getattr(each, NAMES.get(name, name)) for each in (one, other)]
    assert [len(value.encode()) <= longest + 3 for value in values] == [True, True]
    assert values[0] != values[1]
    assert f"too_long:{name}" in one.violations
    whole = read(kind, **{name: "x" * longest})
    assert getattr(whole, NAMES.get(name, name)) == "x" * longest


def test_a_value_that_becomes_a_pseudonym_is_whole() -> None:
    """Two long numbers that begin alike are two pseudonyms, as the document's lengths are no reason to match anybody."""
    one, other = (read_kyc({"number": "7" * 600 + end}, PSEUDONYMISER).number_pseudonym for end in "12")
    assert one != other


@given(text=st.text(), size=st.integers(24, 80))
@settings(max_examples=200, deadline=None)
def test_a_cut_text_keeps_its_bound(text: str, size: int) -> None:
    """In characters or in bytes, and what is within the bound stays as it is."""
    assert len(cut_text(text, size)) <= size
    assert len(cut_code(text, size).encode("utf-8", "replace")) <= size
    assert cut_text(text, len(text)) == text


def test_names_of_a_list_are_bounded_and_the_documented_ones_are_kept() -> None:
    """A hundred thousand services are eight and those of the document, wherever in the list they stand; it is said."""
    services = [f"s{number}" for number in range(100_000)]
    facts = read_kyb({"services": ["aml", *services, "kyc"]}, RECEIVED)
    assert facts.services == ("aml", *services[:8], "kyc")
    assert {"unknown:services", "too_many:services"} <= set(facts.violations)
    few = read_kyb({"services": [*sorted(kyb.SERVICES), *services[:8]]}, RECEIVED)
    assert few.services == (*sorted(kyb.SERVICES), *services[:8])
    assert "too_many:services" not in few.violations
    one, other = (read_kyb({"services": ["x" * 100 + end]}, RECEIVED).services[0] for end in "ab")
    assert one != other
    assert len(one.encode()) <= MAX_NAME_BYTES


def test_a_service_is_never_named_as_the_totals_are() -> None:
    """`(all)` gets a pair of parentheses more, and so does what is named like an escaped one: no two become one."""
    facts = read_kyb({"services": ["(all)", "((all))", "all", "(aml)"]}, RECEIVED)
    assert facts.services == ("((all))", "(((all)))", "all", "(aml)")
    assert "invalid:services" in facts.violations


def test_reasons_beside_a_personal_field_that_is_too_long_are_not_told() -> None:
    """Its words are not looked through, so any reason could be one of them."""
    body = {"address": "Elm Street " * 200, "kycFailJson": '["ELM","BAD_PHOTO"]'}
    assert read_kyc(body, PSEUDONYMISER).fail_reasons == (kyc.OTHER_REASON,)
    assert read_kyc({"address": ["Elm"] * 1000, "kycFailJson": '["ELM"]'}, PSEUDONYMISER).fail_reasons == ("other",)


@pytest.mark.parametrize(
    "fail_json",
    [[0] * 524_200, [[0] * 1000] * 500, {str(n): [n] for n in range(90_000)}, "[0," * 400_000],
    ids=["zeros", "lists", "object", "text"],
)
def test_a_hostile_list_of_reasons_costs_no_more_than_its_beginning(fail_json: Any) -> None:
    """Half a million values: what is looked at does not grow with them."""
    began = time.process_time()
    facts = read_kyc({"kycFailJson": fail_json}, PSEUDONYMISER)
    assert time.process_time() - began < 0.2
    assert facts.fail_reasons in {(), (kyc.OTHER_REASON,)}
    assert {"too_many:kycFailJson", "too_long:kycFailJson"} & set(facts.violations)


_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.integers(1, 200_000).map(lambda n: "x" * n)
)
_VALUES = st.one_of(
    _LEAVES,
    st.builds(lambda leaf, times: [leaf] * times, _LEAVES.filter(lambda leaf: len(str(leaf)) < 9), st.integers(0, 50_000)),
    st.integers(0, 50_000).map(lambda times: [f"n{number}" for number in range(times)]),
    st.integers(0, 20_000).map(lambda times: {f"k{number}": number for number in range(times)}),
    st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)),
)


@given(data=st.data(), kind=st.sampled_from(["kyb", "kyc"]))
@settings(max_examples=25, deadline=None)
def test_whatever_a_body_holds_its_facts_are_small(data: st.DataObject, kind: str) -> None:
    """Any value in any documented field, and any number of others."""
    document = kyb.DOCUMENT if kind == "kyb" else kyc.DOCUMENT
    fields = data.draw(st.dictionaries(st.sampled_from(sorted(document)), _VALUES, max_size=6))
    if len(str(fields.get("service_id", ""))) > MAX_SERVICE_ID_LENGTH:
        del fields["service_id"]  # it names nobody: such a body is quarantined before it is read any further
    others = {f"{number}" * 40: None for number in range(data.draw(st.sampled_from([0, 3, 10_000])))}
    facts = read(kind, **fields, **others)
    assert len(msgspec.json.encode(facts)) < FACTS_BYTES
    assert len(facts.unknown_fields) <= 50


def values(unit: bytes, count: int, *, before: bytes = b"") -> bytes:
    """A body with an id and a list of so many units."""
    return b'{"service_id":"1",%b"other":[%b]}' % (before, b",".join([unit] * count))


@pytest.mark.parametrize("before", [b"", rb'"odd":"\ud83d",', b'"odd":NaN,'], ids=["plain", "half a pair", "no number"])
@pytest.mark.parametrize(("unit", "each"), [(b"0", 1), (b'"a"', 1), (b"[]", 2), (b'{"":[]}', 3), (b'{"b":{},"c":0}', 4)])
def test_a_body_has_a_number_of_values(unit: bytes, each: int, before: bytes) -> None:
    """As many as are allowed are read; with more nothing is, at the ingress and in the intake alike."""
    own = before.count(b",") + 2  # the object, the list and commas, less the comma that the last unit has not
    most = (MAX_VALUES - own) // each
    whole = read_body(values(unit, most, before=before))
    assert len(whole.content["other"]) == most  # type: ignore[arg-type]
    assert read_ids(values(unit, most, before=before))["service_id"] == "1"
    for reader in (read_body, read_ids):
        with pytest.raises(UnreadableBodyError, match=f"more than {MAX_VALUES} values"):
            reader(values(unit, most + 1, before=before))


@pytest.mark.parametrize("before", [b"", rb'"odd":"\ud83d",', b'"odd":NaN,'], ids=["plain", "half a pair", "no number"])
@pytest.mark.parametrize("text", ["a,b;", "[{", '"', "\\", '\\"', '\\\\",['])
def test_what_stands_in_a_text_is_no_value(text: str, before: bytes) -> None:
    """A table or a document that is one text may have as many commas, brackets and quotes as there is room for."""
    whole = text * (MEBIBYTE // len(text) // 3)
    body = b'{"service_id":"1",%b"other":%b}' % (before, msgspec.json.encode(whole))
    assert read_body(body).content["other"] == whole
    assert read_ids(body)["service_id"] == "1"


@given(
    st.lists(st.sampled_from([b'"', b"\\", b",", b"[", b"]", b"{", b"}", b":", b"0", b"a", b"1e999"]), max_size=12),
    st.sampled_from([1, MAX_VALUES // 2, MAX_VALUES, 2 * MAX_VALUES]),
)
@settings(max_examples=100, deadline=None)
def test_hostile_structures_cost_milliseconds(unit: list[bytes], times: int) -> None:
    """Whatever is repeated: an object, or an error, and what the ingress reads of it is what the intake reads."""
    body = b'{"service_id":"1","other":[' + b"".join(unit) * min(times, MEBIBYTE // (len(unit) or 1)) + b"]}"
    began = time.process_time()
    try:
        found = read_body(body).content
    except UnreadableBodyError:
        found = None
    assert time.process_time() - began < 1
    if found is not None:
        assert read_ids(body).get("service_id") == found["service_id"]
