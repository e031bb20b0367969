"""Of the reasons of a rejection none tells anything of the person: what could is `other`."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from schemas.providers.kyc import read_kyc
from schemas.providers.personal import MAX_PERSONAL_LENGTH, PERSONAL, PersonalValues

PSEUDONYMISER = Pseudonymiser(b"k" * 16)
CODES = ("FACE_MISMATCH", "BAD_PHOTO", "documentExpired", "DOC-7", "FORGERY", "BLURRED", "kyc.rejected", "SELFIE_UNCLEAR")


def reasons(*codes: object, **fields: object) -> tuple[str, ...]:
    """The reasons that an event has of these codes, beside these personal fields."""
    body: dict[str, Any] = {**fields, "kycFailJson": list(codes)}
    return read_kyc(body, PSEUDONYMISER).fail_reasons


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        (
            {"firstName": "John", "lastName": "Smith"},
            ["JohnSmith", "NAME_MISMATCH_JOHNSMITH", "SmithJohn", "J_O_H_N", "xjohnx", "SMIT", "JOH", "S.mith"],
        ),
        ({"firstName": "Bo", "lastName": "Xu"}, ["BO", "BoMismatch", "XU_MISMATCH", "BOXUMISMATCH", "xubo", "7xubo7"]),
        ({"firstName": "Ada"}, ["ADAMISMATCH", "NOADA", "ada"]),
        ({"lastName": "O'Neil"}, ["ONEIL", "oneil2", "NEIL"]),
        ({"firstName": "M\u00fcller"}, ["Muller", "Mueller", "MUELLER_MISMATCH", "XMULLERX"]),
        ({"firstName": "Mu\u0308ller"}, ["Muller", "Mueller"]),
        ({"firstName": "Mueller"}, ["Muller", "MULL"]),
        ({"firstName": "Jos\u00e9", "lastName": "Gro\u00df"}, ["Jose", "JOSEMISMATCH", "Gross", "GROS"]),
        ({"firstName": "S\u00f8ren", "lastName": "\u0141\u00f3d\u017a"}, ["Soren", "Soeren", "LODZ", "lodz1"]),
        ({"firstName": "H\u00e5kon", "lastName": "B\u00f6l"}, ["Haakon", "HAKON", "BOEL", "BOL"]),
        ({"firstName": "\uff2a\uff4f\uff48\uff4e"}, ["JOHN"]),
        ({"number": "AB123456"}, ["AB-123456", "AB.123456", "123456", "AB12_3456", "AB123456x", "1234"]),
        ({"number": "AB-123.456"}, ["AB123456", "3456"]),
        ({"number": 98765}, ["N9876", "98-76"]),
        ({"email": "jo.doe@example.org"}, ["jodoe", "jo.doe", "doe", "EXAMPLE"]),
        ({"address": ["1 Elm Street"], "zipCode": "51147"}, ["ELMSTREET", "5_11_47", "elm"]),
        ({"gender": "female", "remark": "for Erika"}, ["FEMALE", "erika"]),
        ({"lastName": "\u674e"}, ["LI", "LI_WEI", "BAD_PHOTO"]),
        ({"firstName": "\u0418\u0432\u0430\u043d"}, ["IVAN"]),
    ],
)  # fmt: skip
def test_a_code_that_could_tell_of_the_person_is_other(fields: dict[str, object], codes: list[str]) -> None:
    """In any case, with any separators or none, with or without accents, in part, or beside other words."""
    for code in codes:
        assert reasons(code, **fields) == ("other",), code


@pytest.mark.parametrize(
    "dob", ["1990-01-02", "02.01.1990", "1/2/1990", 19900102, "2 January 1990", "1990-01-02T00:00:00Z", "900102"]
)
@pytest.mark.parametrize(
    "code",
    ["900102", "0201_90", "020190", "010290", "D020190", "90-01-02", "2_1_90", "1290", "JAN_90", "0102", "AGE_90", "90-1-2"],
)
def test_a_date_is_other_in_any_order(dob: object, code: str) -> None:
    """With a year of two or four digits, with or without zeros, of a date in whatever form."""
    assert reasons(code, dob=dob) == ("other",)


@pytest.mark.parametrize("code", ["19900102", "02011990", "01021990", "2011990", "JAN1990", "1990", "199001"])
def test_a_date_with_its_century_is_other(code: str) -> None:
    """As it was sent, and turned around."""
    for dob in ("1990-01-02", "02.01.1990"):
        assert reasons(code, dob=dob) == ("other",)


def test_digits_of_other_scripts_are_digits() -> None:
    """As Arabic texts have them."""
    assert reasons("0201_90", dob="\u0661\u0669\u0669\u0660-\u0660\u0661-\u0660\u0662") == ("other",)


def test_codes_that_tell_nothing_of_the_person_stay() -> None:
    """Beside an ordinary person."""
    person = {
        "firstName": "Erika",
        "lastName": "Mustermann",
        "email": "erika@mustermann.example",
        "dob": "1964-08-12",
        "number": "T22000129",
        "gender": "2",
        "address": "17 Heidestrasse, Koeln",
        "validUntil": "2031-10-31",
    }
    assert reasons(*CODES, "2", "29.5", **person) == (*CODES, "2", "29.5")


_CODE = st.from_regex(r"[A-Za-z0-9]{1,6}(?:[_.-][A-Za-z0-9]{1,6}){0,3}", fullmatch=True)
_VALUE = st.text(max_size=30) | st.from_regex(r"[A-Za-z0-9]{4,9}", fullmatch=True)


@given(value=_VALUE, name=st.sampled_from(PERSONAL), code=_CODE, cut=st.integers(0, 30))
@example(value="Smith", name="lastName", code="A_B", cut=0)
def test_no_four_characters_of_a_value_pass(value: str, name: str, code: str, cut: int) -> None:
    """Wherever in the code they stand, however they are separated, in upper or lower case."""
    plain = "".join(each for each in value if each.isascii() and each.isalnum())
    part = plain[cut : cut + 4]
    told = "_".join(part.swapcase())
    for hidden in (code + part, part.upper() + code, f"{code}-{told}" if told else ""):
        if len(part) == 4 and hidden:
            found = reasons(hidden, **{name: value})
            # What is no ASCII letter may stand between them: then they are not in a row.
            assert found == ("other",) or part not in value


def test_a_hostile_body_costs_milliseconds() -> None:
    """The longest values, of long dates, beside a thousand codes."""
    worst: dict[str, Any] = dict.fromkeys(PERSONAL, "")
    for number, name in enumerate(worst):
        worst[name] = "".join(chr(0x61 + (number * 7 + each * each) % 26) for each in range(MAX_PERSONAL_LENGTH))
    worst["firstName"] = "zqx"
    for dob in ("1-" * (MAX_PERSONAL_LENGTH // 2), "1" * MAX_PERSONAL_LENGTH, "\ufdfa" * MAX_PERSONAL_LENGTH, "\u00df" * 1000):
        began = time.process_time()
        assert reasons(*(f"{each:x}-ABC_" + "Ab" * 20 + "zQX" for each in range(1000)), **worst | {"dob": dob}) == ("other",)
        assert time.process_time() - began < 1


def test_nothing_is_compared_where_there_is_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all callbacks have none."""
    monkeypatch.setattr(PersonalValues, "__init__", None)
    assert read_kyc({"firstName": "Ada", "kycFailJson": "[]"}, PSEUDONYMISER).fail_reasons == ()
    assert read_kyc({"firstName": "Ada", "kycFailJson": '["Some text"]'}, PSEUDONYMISER).fail_reasons == ("other",)
