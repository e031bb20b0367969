from __future__ import annotations

import msgspec

from kybstream.privacy import make_case_token
from schemas.codec import decode_any
from schemas.records import CaseEvent, DeadLetter, Delivery, Event, Link
from streams.batching.records import Output
from tests.streams.pipeline import (
    NAMES,
    SERVICE_ID,
    START,
    TOKEN_KEY,
    Door,
    Told,
    kyb_body,
    kyc_body,
    link_record,
    run_cases,
    run_intake,
    subject_of,
)

TOKEN = make_case_token(SERVICE_ID, TOKEN_KEY)
PERSONAL = {
    "userNo": "5ecre7" + "0" * 26,
    "firstName": "Erika",
    "lastName": "Mustermann",
    "email": "erika.mustermann@mail.example",
    "number": "T22000129",
    "additionalNumber": "4444-SECOND",
    "userNum": "101016958103533043054",
    "dob": "1964-08-12",
    "gender": "female-coded",
    "street": "Heidestrasse 17",
    "city": "Koeln-Ehrenfeld",
    "state": "NRW-state",
    "zipCode": "51147",
    "address": "17 Heidestrasse, Koeln",
    "validUntil": "2031-10-31",
    "callbackUrl": f"https://us.example/webhooks/kyc/source-token-in-the-url/{TOKEN}",
    "redirectUrl": "https://us.example/thanks?person=erika",
    "documentPhoto": "https://photos.example/front.png",
    "documentBackPhoto": "https://photos.example/back.png",
    "facePhoto": "https://photos.example/face.png",
    "amlReport": "https://reports.example/aml.pdf",
    "idvReport": "https://reports.example/idv.pdf",
    "remark": f"for Erika {TOKEN}",
}
SECRET = {
    "search": "Erika Mustermann Holding",
    "description": "Your Document for Company 'Mustermann Holding' is ready.",
    "url_token": "2Uh806iFSrNRsUZxaTCOJLgbtaVLEzi62Laq9A",
    "link": f"https://api.thekyb.example/api/getFile/667a72a171b90e6?download=true&service_id={SERVICE_ID}",
}
FAILURES = [{"code": "FACE_MISMATCH", "message": "The face is not that of Erika Mustermann"}, "Erika looks unlike T22000129"]


def everything_told() -> Told:
    """New, duplicate, parked, moved, linked, expired and quarantined: every kind of output of bodies full of personal data."""
    door = Door()
    kyc = kyc_body(**PERSONAL, kycFailJson=msgspec.json.encode(FAILURES).decode(), unknownField="Erika again", country="DEU")
    unlinked = kyc | {"remark": "for Erika", "kycStatus": 3}
    kyb = kyb_body(**SECRET, services=["documents"], anotherField="Mustermann")
    link = Link(link_id="l", tenant="acme", case_id=SERVICE_ID, subject=subject_of(kyc), registered_at=START)
    records = [
        door.record(door.delivery(kyb)),
        door.record(door.delivery(kyb)),
        door.record(door.delivery(unlinked)),
        door.record(door.delivery(kyc, case_token=TOKEN)),
        door.record(door.delivery(kyc | {"kycStatus": 2}, case_token=TOKEN)),
        link_record(link),
        door.record(door.delivery(msgspec.json.encode(kyc)[:-1])),
        door.record(door.delivery(kyb | {"service_id": None})),
    ]
    return run_intake(records)


def test_no_output_holds_personal_data_or_secrets() -> None:
    """Of what identifies a person or opens a document nothing leaves the intake or the cases, in value, key or headers.

    Dead letters hold the original record, to be shown and replayed; apart from that they obey the same rule.
    """
    told = everything_told()
    kinds: set[type] = set()
    forbidden = [value.encode() for value in (*PERSONAL.values(), *SECRET.values(), TOKEN)]
    forbidden += [
        b"Erika",
        b"erika",
        b"Mustermann",
        b"T22000129",
        b"2Uh806",
        b"getFile",
        b"source-token-in-the-url",
        b"https://",
    ]
    snapshots = run_cases([output for output in told.outputs if output.topic == NAMES.case_events])
    for output in told.outputs:
        record = decode_any(output.value or b"")
        kinds.add(type(record))
        shown = msgspec.json.encode(without_original(output)) + repr((output.key, output.headers)).encode()
        assert [value for value in forbidden if value in shown] == []
        assert [value for value in forbidden if value in repr(record).encode() and not isinstance(record, DeadLetter)] == []
    assert kinds == {Delivery, Event, CaseEvent, DeadLetter}
    assert [value for snapshot in snapshots for value in forbidden if value in msgspec.json.encode(snapshot)] == []
    assert "merged" in {snapshot.outcome for snapshot in snapshots}


def without_original(output: Output) -> dict[str, object]:
    """The record without the one field of a dead letter that is the original."""
    fields = msgspec.structs.asdict(decode_any(output.value or b""))
    return {name: value for name, value in fields.items() if name != "origin_value"}


def test_what_stands_in_for_personal_data_is_the_same_for_the_same_person() -> None:
    """Analytics can still count persons: pseudonyms of one person are equal over deliveries, and not the values."""
    events = [event for event in everything_told().events if event.subject]
    for name in ("subject", "email_pseudonym", "number_pseudonym", "user_num_pseudonym"):
        (pseudonym,) = {getattr(event, name) for event in events}
        assert pseudonym.startswith("v1.")


def test_fail_reasons_keep_codes_and_drop_free_text() -> None:
    """What looks like a code is kept for the statistics of rejections; a sentence may name somebody and counts as other."""
    reasons = {frozenset(event.fail_reasons) for event in everything_told().events if event.subject}
    assert reasons == {frozenset({"FACE_MISMATCH", "other"})}


def test_names_of_unknown_fields_are_kept_without_their_values() -> None:
    """The provider added a field: we notice, and look at the value in the raw delivery."""
    assert {name for event in everything_told().events for name in event.unknown_fields} == {"anotherField", "unknownField"}


def test_records_that_hold_bodies_do_not_show_them() -> None:
    """`repr` of a delivery and of a dead letter is safe for a log."""
    delivery = Door().delivery(kyc_body(**PERSONAL), case_token=TOKEN)
    letter = everything_told().dead_letters[0]
    for shown in (f"{delivery} {delivery!r}", f"{letter} {letter!r}"):
        assert "Erika" not in shown
        assert TOKEN not in shown
