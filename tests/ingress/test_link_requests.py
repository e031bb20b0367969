from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ingress.link_requests import FIELDS, InvalidLinkError, NotJsonError, read_link_request
from ingress.openapi_parts import SCHEMAS
from kybstream.privacy import Pseudonymiser
from tests.ingress.registering import SUBJECT

_VALIDATOR = Draft202012Validator(cast("Any", SCHEMAS["LinkRequest"]))

_ODD = [SUBJECT, "v1.abc", "!a", "kyc:a", "kyc", "a b", " a", "a ", "a\tb", *("c" * length for length in (255, 256, 512, 513))]
# Python's `$` would also match before a line feed at the end; ECMAScript's, which schemas are written in, does not.
_ANY = st.text(st.characters(codec="utf-8"), max_size=5).filter(lambda text: not text.endswith("\n"))
VALUES = st.one_of(
    _ANY, st.sampled_from(_ODD), st.integers(-1, 10_002), st.floats(), st.booleans(), st.none(), st.just([]), st.just(2.0)
)
BODIES = st.fixed_dictionaries({}, optional=dict.fromkeys((*FIELDS, "unknown"), VALUES)) | st.builds(
    lambda person, more: {"case_id": "c", **person, **more},
    st.sampled_from([{"subject": SUBJECT}, {"user_no": "u"}, {"user_no": "u", "merchant_no": "", "sub_merchant_no": "s"}]),
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, VALUES)),
)


@given(BODIES)
@example({"case_id": "c" * 512, "subject": SUBJECT, "expected_subjects": 1})
@example({"case_id": "c", "subject": SUBJECT, "expected_subjects": 10_000})
@example({"case_id": "c", "subject": SUBJECT, "expected_subjects": 10_001})
@example({"case_id": "a b é \U0001f600", "user_no": "u" * 255, "merchant_no": "", "expected_subjects": 2.0})
@example({"case_id": "c", "user_no": "u" * 256})
def test_what_is_taken_is_what_the_document_says(body: dict[str, object]) -> None:
    """The checks and the schema of the OpenAPI document agree on every body."""
    sent = json.dumps(body)
    taken = True
    try:
        read_link_request(sent.encode())
    except InvalidLinkError:
        taken = False
    except NotJsonError:
        assume(False)  # noqa: FBT003 (Python writes NaN and infinities, JSON has none)
    assert taken == _VALIDATOR.is_valid(body)


@given(st.text(), st.text(), st.text(), st.integers(1, 999))
def test_every_pseudonym_is_a_subject(merchant: str, sub_merchant: str, user: str, version: int) -> None:
    """Whatever topics show as a subject can be sent back as one."""
    subject = Pseudonymiser(b"k" * 32, version).subject(merchant, sub_merchant, user)
    assert FIELDS["subject"].accepts(subject)


def test_a_request_does_not_show_the_person() -> None:
    """Neither its repr nor that of its error tells a number."""
    number = "0123456789abcdef"
    asked = read_link_request(json.dumps({"case_id": "c", "user_no": number, "merchant_no": number}).encode())
    assert number not in repr(asked)
    with pytest.raises(InvalidLinkError) as caught:
        read_link_request(json.dumps({"case_id": "c", "user_no": [number], number: number}).encode())
    assert number not in repr(caught.value) + str(caught.value) + repr(caught.value.errors)
