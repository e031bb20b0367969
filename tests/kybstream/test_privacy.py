from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybstream.errors import UsageError
from kybstream.privacy import CASE_TOKEN_MAX_LENGTH, Pseudonymiser, find_case_tokens, make_case_token, read_case_token

KEY, OTHER_KEY = b"token-key-of-acme-000", b"another-token-key-000"
CASE = "667ab56f0e4e6520880"
REFS = st.text("abcXYZ019_.~-", min_size=1, max_size=38)


def test_pseudonyms_are_pinned() -> None:
    """The same person has had this pseudonym since the first version: deduplication and joins rest on it."""
    pseudonymiser = Pseudonymiser(b"pseudonym-key-of-acme", version=3)
    assert pseudonymiser.subject("M1", "S1", "u") == "v3.adputg4oqzudwcxufems2pv7gq"
    assert pseudonymiser.pseudonym("email", "a@b.example") == "v3.lx5fh6t5j442jkhazf2kqbgffi"


def test_a_pseudonym_is_of_its_field_its_key_and_its_version() -> None:
    """Equal values of different fields, tenants or key versions do not match."""
    one = Pseudonymiser(b"k" * 16)
    pseudonyms = [
        one.pseudonym("email", "x"),
        one.pseudonym("number", "x"),
        one.pseudonym("email", "y"),
        one.pseudonym("email", "x", ""),
        Pseudonymiser(b"l" * 16).pseudonym("email", "x"),
        Pseudonymiser(b"k" * 16, version=2).pseudonym("email", "x"),
        one.subject("a", "bc", "d"),
        one.subject("ab", "c", "d"),
        one.subject("", "abc", "d"),
    ]
    assert len(set(pseudonyms)) == len(pseudonyms)
    assert all(re.fullmatch(r"v[12]\.[a-z2-7]{26}", pseudonym) for pseudonym in pseudonyms)


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_values_have_different_pseudonyms(one: str, other: str) -> None:
    """And equal values equal ones, whatever the text; the value is not in it."""
    pseudonymiser = Pseudonymiser(b"k" * 16)
    assert (pseudonymiser.pseudonym("f", one) == pseudonymiser.pseudonym("f", other)) == (one == other)


def test_a_pseudonymiser_does_not_show_its_key() -> None:
    """Its `repr` is safe for a log."""
    assert "secret" not in repr(Pseudonymiser(b"a secret of 16 bytes"))


def test_case_tokens_are_pinned() -> None:
    """URLs with tokens lie with the KYC provider for months: the format does not change."""
    assert make_case_token(CASE, KEY) == "c1.667ab56f0e4e6520880.9N865QCwDRq6kWKenyVrzQ"


@given(REFS)
def test_a_token_gives_back_its_case_under_its_key_only(case_ref: str) -> None:
    """At most 64 characters that a URL segment can hold; another key, or no key, verifies nothing."""
    token = make_case_token(case_ref, KEY)
    assert re.fullmatch(r"[A-Za-z0-9_.~-]{1,64}", token)
    assert read_case_token(token, (KEY,)) == case_ref
    assert read_case_token(token, (OTHER_KEY, KEY)) == case_ref
    assert read_case_token(token, (OTHER_KEY,)) is None
    assert read_case_token(token, ()) is None


@given(REFS, st.integers(0, 63), st.characters(codec="utf-8"))
def test_a_token_with_any_character_changed_is_none(case_ref: str, position: int, character: str) -> None:
    """Neither the case nor the code can be altered, not even in the bits of the last character that encode nothing."""
    token = make_case_token(case_ref, KEY)
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]
    assert read_case_token(changed, (KEY,)) == (case_ref if changed == token else None)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "c1",
        "c1..",
        f"c1.{CASE}.",
        f"c1.{CASE}",
        f"c2.{CASE}.9N865QCwDRq6kWKenyVrzQ",
        "c1." + "a" * 60,
        "c1." + "a" * 10_000,
    ],
)
def test_what_has_not_the_form_of_a_token_is_none(token: str) -> None:
    """Empty, cut off, another version, too long: not a case, and no error."""
    assert read_case_token(token, (KEY,)) is None


def test_a_case_reference_that_makes_no_token_is_refused_with_a_way_out() -> None:
    """Longer than 38 characters, empty, or with characters a URL segment cannot hold."""
    assert len(make_case_token("a" * 38, KEY)) == CASE_TOKEN_MAX_LENGTH == 64
    with pytest.raises(UsageError, match="at most 38") as refused:
        make_case_token("a" * 39, KEY)
    assert "links add" in (refused.value.hint or "")
    for bad in ("", "a/b", "a b", "ä", "a\n"):
        with pytest.raises(UsageError, match="letters, digits"):
            make_case_token(bad, KEY)


def test_tokens_are_found_in_free_text() -> None:
    """All of them in order, wherever they stand; not yet checked."""
    one, two = make_case_token("a.b-c", KEY), make_case_token(CASE, OTHER_KEY)
    assert find_case_tokens(f"order {one}, also ({two})") == (one, two)
    assert find_case_tokens("nothing here, c1.x.y") == ()
