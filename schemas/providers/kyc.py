"""The KYC provider's registration callback, normalised and without personal data.

Facts kept here come from the provider's callback page: 29 fields with length and "required", of which its own example lacks
seven; three fields of the example are not in its table. `kycFailJson` is JSON inside a string, at most 512 characters.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import islice

import msgspec

from kybstream.privacy import Pseudonymiser, find_case_tokens
from schemas.providers.body import Json, JsonObject, code_text, decode
from schemas.providers.fields import Documented, FieldReader
from schemas.providers.personal import PersonalValues

RESULT = "kyc_result"
"""The event type of every registration callback: the provider gives none."""

SUCCESS = "success"
PERMANENT_REJECTION = "permanent_rejection"
TEMPORARY_REJECTION = "temporary_rejection"
STATUSES = {"1": SUCCESS, "2": PERMANENT_REJECTION, "3": TEMPORARY_REJECTION}

_REQUIRED_LENGTHS = {
    "userNo": 32,
    "email": 128,
    "kycLevel": 3,
    "kycType": 32,
    "kycStatus": 3,
    "firstName": 16,
    "lastName": 32,
    "idDocType": 256,
    "dob": 512,
    "validUntil": 10,
    "gender": 512,
    "additionalNumber": 512,
    "callbackUrl": 512,
    "redirectUrl": 512,
    "documentPhoto": 512,
    "documentBackPhoto": 512,
    "facePhoto": 512,
    "kycFailJson": 512,
    "street": 512,
    "city": 512,
    "state": 512,
    "zipCode": 512,
    "address": 512,
    "userNum": 512,
    "merchantNo": 512,
    "subMerchantNo": 512,
    "remark": 512,
}
DOCUMENT: dict[str, Documented] = {
    **{name: Documented(required=True, max_length=length) for name, length in _REQUIRED_LENGTHS.items()},
    "country": Documented(max_length=256),
    "number": Documented(max_length=256),
    # In the document's example, but not in its table.
    "amlReport": Documented(),
    "idvReport": Documented(),
    "kycPlatform": Documented(),
}

OTHER_REASON = "other"
_REASON_KEYS = frozenset({"code", "reason", "reasons", "rejectLabels", "rejectType", "failCode", "failReason"})
_REASON_CODE = re.compile(r"[A-Za-z0-9]+(?:[_.-][A-Za-z0-9]+)*")
_MAX_REASONS = 32
_MAX_REMARK = 512
_MAX_REASON_LENGTH = 64
_MAX_FAIL_JSON = 16 * 512
_MAX_NODES = 1_000
"""Values of `kycFailJson` that are looked at; in the documented 512 characters there are at most 256."""


class KycFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a KYC callback says, with pseudonyms in place of what identifies a person."""

    type: str
    status: str | None
    kyc_type: str | None
    kyc_level: str | None
    kyc_platform: str | None
    country: str | None
    id_doc_type: str | None
    merchant_no: str | None
    sub_merchant_no: str | None
    fail_reasons: tuple[str, ...]
    email_pseudonym: str | None
    number_pseudonym: str | None
    user_num_pseudonym: str | None
    null_fields: tuple[str, ...]
    unknown_fields: tuple[str, ...]
    violations: tuple[str, ...]


def read_kyc(body: JsonObject, pseudonymiser: Pseudonymiser) -> KycFacts:
    """The facts of a KYC body, whatever it holds; what breaks the document is a violation, never an error."""
    reader = FieldReader(body)
    reader.check(DOCUMENT)
    status = reader.code("kycStatus")
    if status is not None and status not in STATUSES:
        reader.note("unknown", "kycStatus")

    def pseudonym(name: str) -> str | None:
        value = reader.whole_id(name)
        return None if value is None else pseudonymiser.pseudonym(name, value)

    facts = {
        "kyc_type": reader.code("kycType"),
        "kyc_level": reader.code("kycLevel"),
        "kyc_platform": reader.text("kycPlatform"),
        "country": reader.text("country"),
        "id_doc_type": reader.long_code("idDocType"),
        "merchant_no": reader.long_id("merchantNo"),
        "sub_merchant_no": reader.long_id("subMerchantNo"),
        "email_pseudonym": pseudonym("email"),
        "number_pseudonym": pseudonym("number"),
        "user_num_pseudonym": pseudonym("userNum"),
    }
    reasons = fail_reasons(body.get("kycFailJson"), reader)
    unknown_fields = reader.unknown_fields(DOCUMENT)
    return KycFacts(
        type=RESULT,
        status=STATUSES.get(status, status) if status is not None else None,
        fail_reasons=reasons,
        null_fields=reader.null_fields(DOCUMENT),
        unknown_fields=unknown_fields,
        violations=tuple(reader.violations),
        **facts,
    )


def remark_tokens(body: JsonObject) -> tuple[str, ...]:
    """What in `remark` has the form of a case token; not yet checked."""
    remark = body.get("remark")
    # Beyond the documented 512 characters the search takes time with the square of the length.
    return find_case_tokens(remark[:_MAX_REMARK]) if isinstance(remark, str) else ()


def fail_reasons(value: Json, reader: FieldReader) -> tuple[str, ...]:
    """Code-like reasons of `kycFailJson`, at most 32; what may name a person counts as `other`.

    That is free text, and whatever could tell something of a personal field of the same body (`PersonalValues`): to lose a
    reason is cheap. The provider documents no codes, so there is none that is always let through.

    The field is JSON in a string, may be cut off at 512 characters, and has no documented shape: texts of a list, and values
    of keys such as `code` and `reason`, are taken as reasons. Of more values than `_MAX_NODES` the others are not looked at.
    """
    content: Json = value
    if isinstance(value, str):
        if not value.strip():
            return ()
        try:
            content = decode(value.encode()) if len(value) <= _MAX_FAIL_JSON else OTHER_REASON
        except (msgspec.DecodeError, RecursionError, ValueError):
            reader.note("invalid", "kycFailJson")
            return (OTHER_REASON,)
    found: dict[str, None] = {}
    pending: deque[tuple[Json, bool]] = deque([(content, isinstance(content, str))])
    room = _MAX_NODES
    personal: PersonalValues | None = None
    while pending and len(found) <= _MAX_REASONS:
        node, is_reason = pending.popleft()
        if isinstance(node, list | dict):
            inner = (
                ((item, is_reason or isinstance(item, str)) for item in node)
                if isinstance(node, list)
                else ((item, key in _REASON_KEYS) for key, item in node.items())
            )
            pending.extend(islice(inner, room))
            if len(node) > room:
                reader.note("too_many", "kycFailJson")
            room = max(0, room - len(node))
        elif is_reason and node is not None and not isinstance(node, bool) and node != "":
            text = code_text(node) or str(node)
            is_code = len(text) <= _MAX_REASON_LENGTH and _REASON_CODE.fullmatch(text) is not None
            if is_code and text not in found:
                personal = personal or PersonalValues(reader.body)
                is_code = not personal.may_be_in(text)
            found[text if is_code else OTHER_REASON] = None
    if len(found) > _MAX_REASONS:
        reader.note("too_many", "kycFailJson")
    return tuple(islice(found, _MAX_REASONS))
