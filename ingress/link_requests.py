"""What a registration of a link says, checked field by field. Pure; errors name fields and never tell what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kybstream.privacy import Pseudonymiser
from schemas.providers.body import NOT_JSON, Json, JsonObject, UnreadableBodyError, read_body
from schemas.providers.identity import MAX_SERVICE_ID_LENGTH, is_case_id

MAX_EXPECTED_SUBJECTS = 10_000
MAX_NUMBER_LENGTH = 255
"""Characters of `user_no`, `merchant_no` and `sub_merchant_no`: the provider's own longest field."""


class NotJsonError(Exception):
    """The body is not JSON."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field.

    Attributes:
        pointer: Which: a JSON pointer as a URI fragment (RFC 6901, 6); `#` is the body as a whole.
        detail: What was expected.
    """

    pointer: str
    detail: str


class InvalidLinkError(Exception):
    """The body is JSON but no link.

    Attributes:
        errors: All that is wrong with it.
    """

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


@dataclass(frozen=True)
class TextField:
    """A field of text.

    Attributes:
        pattern: What the whole text matches, in the common part of Python's and ECMAScript's syntax.
        max_length: Characters, as the pattern allows them.
        expectation: The same in words, for whoever sent something else.
        description: What the field means.
        example: One that is right.
    """

    pattern: str
    max_length: int
    expectation: str
    description: str
    example: str

    def accepts(self, value: object) -> bool:
        """Whether the value is of this form."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def schema(self) -> dict[str, Json]:
        """The field for the OpenAPI document."""
        return {
            "type": "string",
            "maxLength": self.max_length,
            "pattern": f"^{self.pattern}$",
            "description": self.description,
            "examples": [self.example],
        }


@dataclass(frozen=True)
class CaseField(TextField):
    """A field with the id of a case of the KYB provider, as a webhook may have it."""

    def accepts(self, value: object) -> bool:
        """Whether such a case can be: the worker asks the same. The pattern says it for the OpenAPI document."""
        return isinstance(value, str) and is_case_id(value)


@dataclass(frozen=True)
class CountField:
    """A field with a whole number from 1 to `highest`."""

    highest: int
    description: str

    @property
    def expectation(self) -> str:
        """What is expected, in words."""
        return f"must be a whole number from 1 to {self.highest}"

    def accepts(self, value: object) -> bool:
        """Whether the value is such a number; 2.0 is one, as JSON Schema has it."""
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
        return 1 <= number <= self.highest and number == int(number)

    def schema(self) -> dict[str, Json]:
        """The field for the OpenAPI document."""
        return {"type": "integer", "minimum": 1, "maximum": self.highest, "description": self.description, "examples": [2]}


def _opaque(longest: int) -> str:
    """A number of the provider's: no control characters, and no space at either end, where it is a slip of the pen."""
    return rf"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]{{0,{longest - 2}}}[^\x00-\x20\x7f])?"


_WHITE_SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Python strips from a text; other languages' `\\s` is not the same."""

_NUMBER = f"must be text of at most {MAX_NUMBER_LENGTH} characters, without control characters or spaces around it"

CASE_ID = "case_id"
SUBJECT = "subject"
USER_NO = "user_no"
MERCHANT_NO = "merchant_no"
SUB_MERCHANT_NO = "sub_merchant_no"
EXPECTED_SUBJECTS = "expected_subjects"

FIELDS: Mapping[str, TextField | CountField] = {
    CASE_ID: CaseField(
        # '!' marks keys without an entity, 'kyc:' provisional cases: no case of the KYB provider can be either.
        rf"(?!!|kyc:)[\s\S]*[^{_WHITE_SPACE}][\s\S]*",
        MAX_SERVICE_ID_LENGTH,
        f"must be the KYB service_id: text of at most {MAX_SERVICE_ID_LENGTH} characters, not all white space, and not a "
        "provisional case (kyc:…)",
        "The case: the KYB provider's `service_id`, character by character.",
        "company-42",
    ),
    SUBJECT: TextField(
        r"v[1-9][0-9]{0,2}\.[a-z2-7]{25}[aeimquy4]",
        31,
        "must be a subject's pseudonym as topics and tables show it: v1. and 26 characters",
        "The person: the pseudonym that topics and tables show.",
        "v1.p6qucw4lkwxuphktcvqsebnxkq",
    ),
    USER_NO: TextField(
        _opaque(MAX_NUMBER_LENGTH),
        MAX_NUMBER_LENGTH,
        _NUMBER,
        "The person: the KYC provider's `userNo`. Becomes a pseudonym at once, is not stored and not sent back.",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    MERCHANT_NO: TextField(
        f"(?:{_opaque(MAX_NUMBER_LENGTH)})?",
        MAX_NUMBER_LENGTH,
        _NUMBER,
        "With `user_no`: `merchantNo` as the callback has it; left out or empty where the callback has none.",
        "M-42",
    ),
    SUB_MERCHANT_NO: TextField(
        f"(?:{_opaque(MAX_NUMBER_LENGTH)})?",
        MAX_NUMBER_LENGTH,
        _NUMBER,
        "With `user_no`: `subMerchantNo`, likewise.",
        "",
    ),
    EXPECTED_SUBJECTS: CountField(
        MAX_EXPECTED_SUBJECTS, "How many subjects the case waits for; left out: nothing is said about it, and one is enough."
    ),
}


@dataclass(frozen=True)
class LinkRequest:
    """A registration whose fields are right. Either `subject` or `user_no` is set; `repr` tells neither of them."""

    case_id: str
    expected_subjects: int | None
    subject: str | None = field(repr=False)
    user_no: str | None = field(repr=False)
    merchant_no: str = field(repr=False)
    sub_merchant_no: str = field(repr=False)

    def pseudonym(self, pseudonymiser: Pseudonymiser) -> str:
        """The subject, pseudonymised here if it was given in clear."""
        return self.subject or pseudonymiser.subject(self.merchant_no, self.sub_merchant_no, self.user_no or "")


def read_link_request(body: bytes) -> LinkRequest:
    """The registration that the body is.

    Raises:
        NotJsonError: It is not JSON.
        InvalidLinkError: It is no registration; all that is wrong is named, nothing of what was sent is told.
    """
    try:
        content, unreadable = read_body(body)
    except UnreadableBodyError as error:
        if error.reason == NOT_JSON:
            raise NotJsonError from None
        raise InvalidLinkError((FieldError("#", "must be a JSON object"),)) from None
    if unreadable:  # the sender is told, and waits for it: nothing is lost by asking for better
        raise NotJsonError
    return link_request(content)


def link_request(content: JsonObject) -> LinkRequest:
    """The registration with these fields, whoever sends it: the HTTP API and `kyb-stream links add` take the same.

    Raises:
        InvalidLinkError: As `read_link_request`.
    """
    errors = _errors(content)
    if errors:
        raise InvalidLinkError(errors)
    expected = content.get(EXPECTED_SUBJECTS)
    return LinkRequest(
        case_id=str(content[CASE_ID]),
        expected_subjects=int(expected) if isinstance(expected, int | float) else None,
        subject=_text(content, SUBJECT),
        user_no=_text(content, USER_NO),
        merchant_no=_text(content, MERCHANT_NO) or "",
        sub_merchant_no=_text(content, SUB_MERCHANT_NO) or "",
    )


def _errors(content: JsonObject) -> tuple[FieldError, ...]:
    errors = [
        FieldError(f"#/{name}", kind.expectation)
        for name, kind in FIELDS.items()
        if name in content and not kind.accepts(content[name])
    ]
    if CASE_ID not in content:
        errors.append(FieldError(f"#/{CASE_ID}", "is missing"))
    if (SUBJECT in content) == (USER_NO in content):
        errors.append(FieldError("#", f"must have either {SUBJECT} or {USER_NO}"))
    elif SUBJECT in content:
        errors += [
            FieldError(f"#/{name}", f"goes with {USER_NO} only") for name in (MERCHANT_NO, SUB_MERCHANT_NO) if name in content
        ]
    if content.keys() - FIELDS.keys():
        # Their names are the sender's text, too.
        errors.append(FieldError("#", f"has a field that is not known; known are {', '.join(FIELDS)}"))
    return tuple(errors)


def _text(content: JsonObject, name: str) -> str | None:
    value = content.get(name)
    return value if isinstance(value, str) else None
