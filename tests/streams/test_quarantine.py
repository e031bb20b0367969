from __future__ import annotations

import msgspec
import pytest

from kybstream.encryption import BodyDecryptor, BodyEncryptor, UnknownKeyError
from kybstream.privacy import Pseudonymiser
from schemas.codec import decode, encode
from schemas.records import CaseEvent, DeadLetter, Link, WebhookDelivery
from schemas.topics import entity_key
from streams.batching.records import Record as KafkaRecord
from streams.intake import QuarantineError, intake
from streams.intake_state import IntakeState
from streams.processing import CasesProcess, IntakeProcess
from tests.streams.pipeline import (
    NAMES,
    POLICIES,
    SERVICE_ID,
    START,
    DictState,
    Door,
    Told,
    as_record,
    kyb_body,
    kyc_body,
    link_record,
    nothing_aside,
    run_intake,
)

NAME = b"Erika Mustermann"
KEY = b"0123456789abcdef0123456789abcdef"
HARMLESS = b'{"firstName": "' + NAME + b'"'


def delivered(body: bytes, **changes: object) -> tuple[KafkaRecord, Told]:
    """The record of a delivery, and what the intake says of it."""
    door = Door()
    record = door.record(door.delivery(body, **changes))  # type: ignore[arg-type]  # fields of the delivery
    return record, run_intake([record])


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("not_json", b""),
        ("not_json", HARMLESS),
        ("not_json", HARMLESS + b"} trailing"),
        ("not_json", HARMLESS + b', "age": nan}'),
        ("not_json", HARMLESS + b', "age": NaN'),
        ("not_json", HARMLESS + b', "last": "\\ud800",}'),
        ("no_entity", HARMLESS + b', "service_id": "\\ud800"}'),
        ("no_entity", HARMLESS + b', "service_id": 1e999}'),
        ("not_json", HARMLESS + b', "a": ' + b"[" * 100_000),
        ("not_json", HARMLESS + b', "a": ' + b"[" * 500 + b"]" * 500 + b"}"),
        ("not_an_object", b'["' + NAME + b'"]'),
        ("not_an_object", b'"' + NAME + b'"'),
        ("not_an_object", b"[" * 100_000),
        ("not_an_object", b"null"),
        ("no_entity", HARMLESS + b"}"),
        ("no_entity", HARMLESS + b', "service_id": null}'),
        ("no_entity", HARMLESS + b', "service_id": "  "}'),
        ("no_entity", HARMLESS + b', "service_id": ["667ab56f0e4e6520880"]}'),
        ("no_entity", HARMLESS + b', "service_id": true}'),
        ("no_entity", HARMLESS + b', "service_id": "!1"}'),
        ("no_entity", HARMLESS + b', "service_id": "' + b"7" * 513 + b'"}'),
        ("no_entity", HARMLESS + b', "userNo": ""}'),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:60].decode("latin-1"),
)
def test_a_body_that_cannot_be_processed_is_kept_whole_and_stops_nobody(reason: str, body: bytes) -> None:
    """Its delivery is quarantined for the reason, its bytes lie in the dead letters, and the detail tells nothing of them."""
    record, told = delivered(body)
    (verdict,) = told.deliveries
    (letter,) = told.dead_letters
    assert (verdict.verdict, verdict.reason, letter.reason, letter.stage) == ("quarantined", reason, reason, "intake")
    assert verdict.delivery_id == letter.delivery_id
    assert decode(letter.origin_value or b"", WebhookDelivery).body == body
    assert (letter.origin_topic, letter.origin_key, letter.body_size) == (record.topic, record.key, len(body))
    assert "Erika" not in f"{letter.detail} {letter!r} {verdict}"
    assert told.events == []
    assert told.case_events == []


@pytest.mark.parametrize("rest", [b'"a": ' + b"[" * 500 + b"]" * 500, b'"a": [' + b"1e999," * 10_000 + b"1]"])
def test_a_body_that_only_the_intake_refuses_is_the_sender_s(rest: bytes) -> None:
    """The ingress reads the entity and nothing else: a sender of such bodies must not reach the dead-letter limit."""
    door = Door()
    delivery = door.delivery(b'{"service_id": "667ab56f", ' + rest + b"}")
    assert delivery.entity_key == "acme/667ab56f"
    result = IntakeProcess(POLICIES, NAMES)(0, [door.record(delivery)], DictState())
    assert [(dead.reason, dead.may_be_ours) for dead in result.dead] == [("not_json", False)]


def test_bytes_that_are_no_record_go_to_the_dead_letters_with_their_headers() -> None:
    """Not ours, cut off, or with bytes left over: undecodable, kept with key and headers, and the next record goes on."""
    door = Door()
    good = door.record(door.delivery(kyb_body()))
    value = good.value or b""
    for bad in (None, b"", b"not avro", value[:-1], value + b"x", b"\xc3\x01" + b"\x00" * 8, encode(an_event())):
        broken = msgspec.structs.replace(good, value=bad, headers=[("traceparent", b"00-1-2-01"), ("x", b"\xff")])
        told = run_intake([broken, good])
        (letter,) = told.dead_letters
        assert (letter.reason, letter.stage, letter.origin_value, letter.origin_key) == ("undecodable", "intake", bad, good.key)
        assert letter.origin_headers == {"traceparent": b"00-1-2-01", "x": b"\xff"}
        assert [delivery.verdict for delivery in told.deliveries] == ["new"]


def an_event() -> CaseEvent:
    """A record of another topic."""
    return CaseEvent(event_id="e", tenant="acme", case_id=SERVICE_ID, received_at=START, kind="kyb")


def test_a_case_event_that_cannot_be_decoded_is_a_dead_letter_of_the_cases() -> None:
    """The cases go on with the next record."""
    good = as_record(NAMES.case_events, f"acme/{SERVICE_ID}", encode(an_event()))
    bad = as_record(NAMES.case_events, f"acme/{SERVICE_ID}", b"\xc3\x01 no")
    letter, snapshot = CasesProcess(POLICIES, NAMES)(0, [bad, good], DictState()).outputs
    assert (letter.topic, snapshot.topic) == (NAMES.dead_letters, NAMES.cases)
    assert decode(letter.value or b"", DeadLetter).stage == "cases"


def test_a_delivery_of_a_tenant_that_is_not_configured_is_quarantined() -> None:
    """It can be replayed once the tenant is configured."""
    _, told = delivered(msgspec.json.encode(kyb_body()), tenant="initech")
    assert [(verdict.verdict, verdict.reason) for verdict in told.deliveries] == [("quarantined", "unknown_tenant")]
    assert [letter.tenant for letter in told.dead_letters] == ["initech"]


def test_a_link_of_a_tenant_that_is_not_configured_is_a_dead_letter() -> None:
    """A link is no delivery: it has no verdict, but it is not lost."""
    link = Link(link_id="l", tenant="initech", case_id=SERVICE_ID, subject="v1.s", registered_at=START)
    told = run_intake([link_record(link)])
    assert [(letter.reason, letter.stage, letter.received_at) for letter in told.dead_letters] == [
        ("unknown_tenant", "links", START)
    ]
    assert told.deliveries == []


def test_a_link_that_compaction_removed_is_nothing() -> None:
    """The tombstone of a link undoes nothing and is no dead letter."""
    assert run_intake([as_record(NAMES.links, "acme/v1.s", None)]).outputs == []


def sealed(content: bytes, **changes: object) -> KafkaRecord:
    """The record of a delivery whose body is encrypted as the ingress does it."""
    door = Door()
    clear = door.delivery(content)
    cipher, key_id = BodyEncryptor("k1", KEY).encrypt(
        content, tenant=clear.tenant, delivery_id=clear.delivery_id, day=START.date()
    )
    return door.record(msgspec.structs.replace(clear, **{"body": cipher, "body_key_id": key_id, **changes}))


def read_sealed(record: KafkaRecord, key: bytes = KEY) -> Told:
    """What an intake that has the key says of the record."""
    process = IntakeProcess(POLICIES, NAMES, BodyDecryptor({"k1": key}))
    return Told(list(process(0, [record], DictState()).outputs))


def test_an_encrypted_body_says_what_it_says_in_clear() -> None:
    """Encryption is between ingress and intake: verdict and event are those of the body, and so is its size."""
    body = msgspec.json.encode(kyb_body())
    assert read_sealed(sealed(body)).outputs == delivered(body)[1].outputs


def test_an_encrypted_body_in_the_dead_letters_stays_encrypted() -> None:
    """What cannot be parsed is kept as it was in the raw topic."""
    record = sealed(HARMLESS)
    (letter,) = read_sealed(record).dead_letters
    assert (letter.reason, letter.origin_value, letter.body_size) == ("not_json", record.value, len(HARMLESS))
    assert NAME not in encode(letter)


def test_an_encrypted_body_that_was_changed_is_quarantined() -> None:
    """Cut off, moved to another delivery, or sealed under another key of that name: kept, told, and nobody is stopped."""
    body = msgspec.json.encode(kyb_body())
    for told in (
        read_sealed(sealed(body, body=b"short")),
        read_sealed(sealed(body, delivery_id="delivery-of-another")),
        read_sealed(sealed(body), key=bytes(32)),
    ):
        assert [letter.reason for letter in told.dead_letters] == ["undecryptable"]
        assert [verdict.reason for verdict in told.deliveries] == ["undecryptable"]


def test_a_body_of_a_key_that_is_not_configured_stops_the_intake() -> None:
    """A missing key is no record's fault: the batch fails and is done again, instead of filling the dead letters."""
    with pytest.raises(UnknownKeyError, match="'k1'"):
        run_intake([sealed(msgspec.json.encode(kyb_body()))])


def test_the_intake_alone_never_takes_a_cipher_for_json() -> None:
    """The state machine refuses an encrypted body by its mark."""
    delivery = Door().delivery(kyb_body(), body_key_id="k1/acme/2026-03-01")
    with pytest.raises(QuarantineError) as refused:
        intake(IntakeState(), delivery, POLICIES["acme"], nothing_aside())
    assert refused.value.reason == "encrypted"


@pytest.mark.parametrize("key", [None, entity_key("acme", "667c07eb4fca3a501e"), entity_key("globex", SERVICE_ID)])
def test_a_delivery_keyed_by_another_entity_is_quarantined(key: str | None) -> None:
    """In another entity's partition it would be judged by another entity's state."""
    _, told = delivered(msgspec.json.encode(kyb_body()), entity_key=key)
    assert [letter.reason for letter in told.dead_letters] == ["entity_mismatch"]


def test_another_pseudonym_key_at_the_ingress_is_an_entity_mismatch() -> None:
    """The hint names the setting; nothing is joined under a wrong pseudonym."""
    subject = Pseudonymiser(b"another key than acme's").subject("TEST000001", "MER10123012", "3db9")
    _, told = delivered(msgspec.json.encode(kyc_body(userNo="3db9")), entity_key=entity_key("acme", subject))
    (letter,) = told.dead_letters
    assert letter.reason == "entity_mismatch"
    assert "pseudonym_key" in (letter.detail or "")


def test_the_same_bad_record_again_is_the_same_letter() -> None:
    """Ids of dead letters follow from the delivery or from the bytes, so that a replay drops the second copy."""
    door = Door()
    one, two = door.record(door.delivery(b"{")), door.record(door.delivery(b"{"))
    raw = as_record(NAMES.raw, "acme/x", b"junk")
    ids = [letter.dead_letter_id for letter in run_intake([one, two, raw, one, two, raw]).dead_letters]
    assert ids[:3] == ids[3:]
    assert len(set(ids)) == 3


def test_a_record_under_another_key_is_told_and_changes_no_state() -> None:
    """State is looked up by the record's key: under another one it would be written where it does not belong."""
    door = Door()
    delivery = door.delivery(kyb_body())
    misplaced = as_record(NAMES.raw, "acme/another", encode(delivery))
    told = run_intake([misplaced])
    assert [letter.reason for letter in told.dead_letters] == ["key_mismatch"]
    assert told.case_events == []

    event = CaseEvent(event_id="e", tenant="acme", case_id=SERVICE_ID, received_at=delivery.received_at, kind="kyb")
    result = CasesProcess(POLICIES, NAMES)(0, [as_record(NAMES.case_events, "acme/another", encode(event))], DictState())
    assert [output.topic for output in result.outputs] == [NAMES.dead_letters]
    assert result.writes == {}
