from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from schemas.providers.body import UnreadableBodyError, canonical_digest, id_text, read_body
from schemas.providers.kyb import embedded_time, read_kyb, read_link
from schemas.providers.kyc import read_kyc, remark_tokens

RECEIVED = datetime(2026, 3, 1, tzinfo=UTC)
PSEUDONYMISER = Pseudonymiser(b"pseudonym-key-of-acme")


def violations_of(kind: str, **fields: Any) -> set[str]:
    """Violations that these fields make, apart from those of missing ones."""
    facts = read_kyb(fields, RECEIVED) if kind == "kyb" else read_kyc(fields, PSEUDONYMISER)
    return {violation for violation in facts.violations if not violation.startswith("missing:")}


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_object_or_an_error_that_quotes_nothing(body: bytes) -> None:
    """No other exception, and a reason from a closed list."""
    told = "read"
    try:
        read_body(body)
    except UnreadableBodyError as error:
        told = error.reason if "'" not in error.detail else "a quotation"
    assert told in {"read", "not_json", "not_an_object"}


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'\xef\xbb\xbf{"a": "x"}', {"a": "x"}),
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        (b'{"a": "\\u0000\\ud83d\\ude00"}', {"a": "\x00\N{GRINNING FACE}"}),
        (b' {"a": ' + b"[" * 99 + b"]" * 99 + b"}\n", None),
    ],
)
def test_odd_json_is_read_as_it_stands(body: bytes, content: dict[str, object] | None) -> None:
    """The last of equal keys counts, a byte order mark is allowed, and numbers keep all their digits."""
    read = read_body(body).content
    assert content is None or read == content
    assert len(canonical_digest(read)) == 64


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": "\\ud800",}',
        b'{"a": \xff}',
        b'{"a": .5e999}',
        b"{} {}",
        b"{'a': 1}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}",
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_what_is_no_json_is_a_value_not_a_crash(body: bytes) -> None:
    """Empty, cut off, a comma too many, no number, two documents, a hundred thousand brackets."""
    with pytest.raises(UnreadableBodyError) as refused:
        read_body(body)
    assert refused.value.reason == "not_json"


def test_the_digest_is_of_the_content() -> None:
    """Order and white space do not matter; values and their types do."""
    one = canonical_digest(read_body(b'{"a": 1, "b": {"c": [1, 2], "d": null}}').content)
    assert one == canonical_digest(read_body(b'{"b":{"d":null,"c":[1,2]},"a":1}').content)
    others = [
        b'{"a": "1", "b": {"c": [1, 2], "d": null}}',
        b'{"a": 1, "b": {"c": [2, 1], "d": null}}',
        b'{"a": 1, "b": {"c": [1, 2]}}',
    ]
    assert one not in {canonical_digest(read_body(other).content) for other in others}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (7, "7"),
        (0, "0"),
        (10**30, str(10**30)),
        ("", None),
        (" ", None),
        (True, None),
        (1.5, None),
        ([], None),
        (None, None),
    ],
)
def test_an_id_is_text_or_an_integer(value: Any, text: str | None) -> None:
    """Anything else, or nothing, is no id."""
    assert id_text(value) == text


def test_wrong_types_are_violations_and_left_out() -> None:
    """A body is never rejected for them."""
    found = violations_of("kyb", type=5, status=["x"], services="kyc", document_found="yes", uid=7, kyb_backoffice_id={})
    assert found == {
        "type:type",
        "unknown:type",
        "type:status",
        "type:services",
        "type:document_found",
        "type:uid",
        "type:kyb_backoffice_id",
    }
    facts = read_kyb({"services": "kyc", "uid": 7, "status": ["x"], "document_found": "yes"}, RECEIVED)
    assert (facts.services, facts.uid, facts.status, facts.document_found) == (("kyc",), "7", None, None)


def test_unknown_types_statuses_and_services_are_kept_and_noted() -> None:
    """The provider adds things: they are in the event as sent."""
    facts = read_kyb({"type": "service_paused", "status": "paused", "services": ["kyc", "vat", "kyc"]}, RECEIVED)
    assert (facts.type, facts.status, facts.services) == ("service_paused", "paused", ("kyc", "vat"))
    assert {"unknown:type", "unknown:status", "unknown:services"} < set(facts.violations)
    assert read_kyb({}, RECEIVED).type == "unknown"


def test_every_common_kyb_field_is_required_and_no_other() -> None:
    """Six of them; null counts as missing."""
    assert set(read_kyb({"link": None}, RECEIVED).violations) == {
        f"missing:{name}" for name in ("kyb_backoffice_id", "service_id", "status", "type", "services", "link")
    }


def test_codes_may_be_numbers_or_text() -> None:
    """Fields kycLevel and kycStatus are ints, kycType and idDocType coded strings: either form means the same."""
    texts = read_kyc({"kycStatus": "3", "kycLevel": "1", "kycType": "2", "idDocType": "1"}, PSEUDONYMISER)
    numbers = read_kyc({"kycStatus": 3, "kycLevel": 1, "kycType": 2, "idDocType": 1}, PSEUDONYMISER)
    assert texts == numbers
    assert (texts.status, texts.kyc_level, texts.kyc_type) == ("temporary_rejection", "1", "2")
    assert read_kyc({"kycStatus": 7}, PSEUDONYMISER).status == "7"
    assert violations_of("kyc", kycStatus=7) == {"unknown:kycStatus"}


@pytest.mark.parametrize("number", ["3", "3.0", "3e0", "30e-1", "0.3E+1", '"3"'])
def test_a_code_is_the_same_in_any_spelling_of_its_number(number: str) -> None:
    """A rejection reaches its case also from a sender whose numbers have fractions."""
    names = ("kycStatus", "kycLevel", "kycType", "idDocType")
    facts = read_kyc(read_body(b"{%b}" % ",".join(f'"{name}":{number}' for name in names).encode()).content, PSEUDONYMISER)
    assert (facts.status, facts.kyc_level, facts.kyc_type, facts.id_doc_type) == ("temporary_rejection", "3", "3", "3")
    assert not {each for each in facts.violations if not each.startswith("missing:")}
    assert read_kyc({"kycFailJson": f'[{{"code":{number}}}]'}, PSEUDONYMISER).fail_reasons == ("3",)


@pytest.mark.parametrize(
    ("value", "status", "violation"),
    [
        (3.5, None, "type:kycStatus"),
        (1e300, None, "type:kycStatus"),
        (2.0**53, None, "type:kycStatus"),
        (True, None, "type:kycStatus"),
        (-3.0, "-3", "unknown:kycStatus"),
        (" 3", " 3", "unknown:kycStatus"),
        ("03", "03", "unknown:kycStatus"),
        ("3.0", "3.0", "unknown:kycStatus"),
    ],
)
def test_what_is_another_code_is_none_of_the_documented(value: Any, status: str | None, violation: str) -> None:
    """A text counts as it stands, and a number that is not whole, or cannot be told from its neighbours, is no code."""
    facts = read_kyc({"kycStatus": value}, PSEUDONYMISER)
    assert (facts.status, violation in facts.violations) == (status, True)


def test_an_id_with_a_fraction_is_no_id() -> None:
    """Ids are opaque: what was rounded must not make two of them one."""
    assert read_kyc({"merchantNo": 2.0}, PSEUDONYMISER).merchant_no is None


def test_values_that_are_too_long_are_noted_and_whole() -> None:
    """By the document's lengths; nothing is cut."""
    assert violations_of("kyc", firstName="x" * 17, lastName="x" * 32) == {"too_long:firstName"}
    assert read_kyc({"country": "x" * 300}, PSEUDONYMISER).country == "x" * 300


def test_unknown_fields_are_named_within_bounds() -> None:
    """Fifty names of a hundred characters at most: a body cannot blow up an event."""
    facts = read_kyc({f"{number:03}" + "n" * 200: 1 for number in range(80)}, PSEUDONYMISER)
    assert len(facts.unknown_fields) == 50
    assert {len(name) for name in facts.unknown_fields} == {100}


@pytest.mark.parametrize(
    ("given", "reasons"),
    [
        (None, ()),
        ("", ()),
        ("[]", ()),
        ("{}", ()),
        ('["BAD_PHOTO", "BAD_PHOTO"]', ("BAD_PHOTO",)),
        ('{"code": "DOC-01", "message": "Mr X is not Mr Y"}', ("DOC-01",)),
        ('{"reason": "Mr X looks unlike Mr Y"}', ("other",)),
        ('{"rejectLabels": ["A", "B"], "nested": {"code": 17}}', ("A", "B", "17")),
        ('"BAD_PHOTO"', ("BAD_PHOTO",)),
        ('["BAD_PHOTO", "BAD_PH', ("other",)),
        ("not json", ("other",)),
        ([{"code": "LIST"}], ("LIST",)),
        ("[" * 400 + "]" * 400, ()),
    ],
)
def test_fail_reasons_are_read_leniently(given: Any, reasons: tuple[str, ...]) -> None:
    """JSON in a string, a list, an object, null, cut off at 512 characters: codes where there are codes."""
    found = read_kyc({"kycFailJson": given}, PSEUDONYMISER).fail_reasons
    assert sorted(found) == sorted(reasons)


def test_fail_reasons_are_bounded() -> None:
    """At most 32 of at most 64 characters."""
    given = msgspec.json.encode([f"CODE{number}" for number in range(100)] + ["x" * 65]).decode()
    assert len(read_kyc({"kycFailJson": given}, PSEUDONYMISER).fail_reasons) == 32
    assert read_kyc({"kycFailJson": ["x" * 65]}, PSEUDONYMISER).fail_reasons == ("other",)


@pytest.mark.parametrize(
    ("link", "read"),
    [
        ("https://h.example/cases-detail?company_id=c&service_id=s", ("cases-detail", "s", "c")),
        ("https://h.example/aml-result?request_id=r", ("aml-result", None, None)),
        ("https://h.example/api/getFile/667a?download=true", ("get-file", None, None)),
        ("https://h.example/elsewhere/?service_id=s", ("other", "s", None)),
        ("https://[broken", ("other", None, None)),
        ("https://h.example/?" + "&".join(f"a{number}=1" for number in range(50)), ("other", None, None)),
        ("", (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_of_a_link_only_its_kind_and_two_ids_are_kept(link: str | None, read: tuple[str | None, ...]) -> None:
    """The link itself may open a document."""
    assert read_link(link) == read


def test_a_link_that_is_no_text_is_a_violation() -> None:
    """As any other field of the wrong type."""
    assert "type:link" in read_kyb({"link": 7}, RECEIVED).violations


def test_words_of_the_person_are_no_reasons() -> None:
    """A reason that repeats a name, or holds a long number, counts as other; a code stays."""
    body = {"firstName": "Ada", "lastName": "Smith", "kycFailJson": '["Smith","ADA_MISMATCH","110101198802109990","FORGERY"]'}
    assert read_kyc(body, Pseudonymiser(b"k" * 16)).fail_reasons == ("other", "FORGERY")


@pytest.mark.parametrize(
    ("service_id", "moment"),
    [
        ("667ab56f0e4e6520880", datetime(2024, 6, 25, 12, 17, 51, tzinfo=UTC)),
        ("667AB56F", datetime(2024, 6, 25, 12, 17, 51, tzinfo=UTC)),
        ("667ab56", None),
        ("667ab56g0e4e", None),
        ("00000000aa", None),
        ("ffffffffaa", None),
        (f"{int((RECEIVED + timedelta(days=1)).timestamp()):08x}", RECEIVED + timedelta(days=1)),
        (f"{int((RECEIVED + timedelta(days=1, seconds=1)).timestamp()):08x}", None),
        (None, None),
    ],
)
def test_an_embedded_time_counts_only_if_it_is_plausible(service_id: str | None, moment: datetime | None) -> None:
    """From 2015 to a day after receipt, of eight hex digits."""
    assert embedded_time(service_id, RECEIVED) == moment


def test_a_hostile_remark_does_not_hold_up_the_intake() -> None:
    """A megabyte that looks like the beginnings of case tokens is looked through in no time."""
    started = time.perf_counter()
    assert remark_tokens({"remark": "c1." * 350_000}) == ()
    assert time.perf_counter() - started < 1
