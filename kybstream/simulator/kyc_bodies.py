"""The KYC registration callback: the 29 documented fields and the three undocumented ones of its example, made up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kybstream.simulator.identifiers import Identifiers, Person
from kybstream.simulator.kyb_bodies import Body

KycStatusCode: TypeAlias = Literal[1, 2, 3]
"""1 success, 2 permanent rejection, 3 temporary rejection."""

SUCCESS: KycStatusCode = 1
PERMANENT_REJECTION: KycStatusCode = 2
TEMPORARY_REJECTION: KycStatusCode = 3

FAIL_JSON_LENGTH = 512
"""Characters the document gives `kycFailJson`; a longer one arrives cut off."""

_FILES = "https://files.example.com/kyc"
_TEMPORARY_REASONS = ("DOCUMENT_BLURRED", "FACE_MISMATCH", "DOCUMENT_EXPIRED", "DOCUMENT_INCOMPLETE")
_PERMANENT_REASONS = ("FORGED_DOCUMENT", "SANCTIONS_HIT")


@dataclass(frozen=True, kw_only=True)
class KycMoment:
    """What a callback is made for.

    Attributes:
        ids: Where new ids come from.
        person: The subject.
        attempt: Counts the subject's results, so that two of a subject never have equal bytes.
        status: The result.
        remark: What the integrator gave at registration: free text, or a case token.
        complete: All documented fields, or only the 22 (and three undocumented) that the document's example has.
    """

    ids: Identifiers
    person: Person
    attempt: int
    status: KycStatusCode
    remark: str
    complete: bool


def registration_callback(moment: KycMoment) -> Body:
    """One callback, in the field order of the document's example."""
    person = moment.person
    report = moment.ids.hexadecimal(f"report/{person.number}/{moment.attempt}", 32)
    photos = f"{_FILES}/{moment.ids.hexadecimal(f'photos/{person.number}', 16)}"
    body: Body = {
        "amlReport": f"{_FILES}/{report}/aml.pdf",
        "callbackUrl": "https://integrator.example.com/webhooks/kyc/notify",
        "country": person.country,
        "dob": person.birth_date,
        "documentBackPhoto": f"{photos}/back.png",
        "documentPhoto": f"{photos}/front.png",
        "email": f"test.person.{person.number}@example.com",
        "facePhoto": f"{photos}/face.png",
        "firstName": "Test",
        "gender": person.gender,
        "idDocType": str(1 + person.number % 3),
        "idvReport": f"{_FILES}/{report}/idv.pdf",
        "kycFailJson": _fail_json(moment),
        "kycLevel": 1 + person.number % 2,
        "kycPlatform": ("onfido", "sumsub")[person.number % 2],
        "kycStatus": moment.status,
        "kycType": "1",
        "lastName": f"Person {person.number}",
        "merchantNo": person.merchant_no,
        "number": person.id_number,
        "subMerchantNo": person.sub_merchant_no,
        "userNo": person.user_no,
        "userNum": person.user_num,
        "validUntil": "2037-02-10",
        "remark": moment.remark,
    }
    return body | _address(person.number) if moment.complete else body


def _address(number: int) -> Body:
    return {
        "redirectUrl": "https://integrator.example.com/kyc/done",
        "additionalNumber": f"TEST-{number:08d}",
        "street": f"{number} Test Street",
        "city": "Testville",
        "state": "Test State",
        "zipCode": f"{number % 100_000:05d}",
        "address": f"{number} Test Street, Testville",
    }


def _fail_json(moment: KycMoment) -> str | None:
    turn = moment.person.number + moment.attempt
    if moment.status == SUCCESS:
        return "[]" if turn % 4 else None
    reasons = _PERMANENT_REASONS if moment.status == PERMANENT_REJECTION else _TEMPORARY_REASONS
    named = [reasons[turn % len(reasons)]]
    if turn % 7 == 0:  # so many reasons that the field's length cuts the JSON text off
        named += [f"{reasons[0]}_{page}" for page in range(40)]
    return json.dumps(named)[:FAIL_JSON_LENGTH]
