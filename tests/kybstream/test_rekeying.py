from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec
import pytest

from kybstream.encryption import BodyEncryptor, UnknownKeyError
from kybstream.operations.rekeying import rekey_with
from kybstream.privacy import Pseudonymiser
from kybstream.settings import Settings
from schemas.codec import decode, encode
from schemas.links import make_link
from schemas.records import CaseEvent, WebhookDelivery

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"0123456789abcdef0123456789abcdef"
SUBJECT = Pseudonymiser(b"pseudonym-key-of-acme").subject("m", "", "u1")


def settings(*, keys: bool = True) -> Settings:
    """One tenant, and the key of bodies."""
    return Settings.model_validate(
        {
            "tenants": [{"name": "acme", "pseudonym_key": "pseudonym-key-of-acme", "case_token_keys": ["c" * 32]}],
            "encryption": {
                "required": False,
                "keys": [{"id": "k1", "key": base64.b64encode(KEY).decode()}] if keys else [],
            },
        }
    )


def delivery(body: bytes, *, kind: str = "kyb-service", tenant: str = "acme", **fields: object) -> WebhookDelivery:
    """A delivery that the ingress could not key."""
    made = WebhookDelivery(delivery_id="delivery-1", received_at=NOON, tenant=tenant, source="s", source_kind=kind, body=body)
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [
        ("kyb-service", b'{"service_id": "s1"}', b"acme/s1"),
        ("kyc-registration", b'{"userNo": "u1", "merchantNo": "m"}', f"acme/{SUBJECT}".encode()),
    ],
)
def test_a_delivery_gets_the_key_that_its_body_names_now(kind: str, body: bytes, key: bytes) -> None:
    """In its record and in Kafka, and nothing else of it changes; a body in a cipher stays in it."""
    in_clear = delivery(body, kind=kind, entity_key="acme/wrong")
    cipher, key_id = BodyEncryptor("k1", KEY).encrypt(body, tenant="acme", delivery_id="delivery-1", day=NOON.date())
    for before in (in_clear, msgspec.structs.replace(in_clear, body=cipher, body_key_id=key_id)):
        found, value = rekey_with(settings())(b"acme/!delivery-1", encode(before))
        assert found == key
        assert decode(value or b"", WebhookDelivery) == msgspec.structs.replace(before, entity_key=key.decode())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"junk",
        encode(delivery(b"{")),
        encode(delivery(b'{"service_id": "s1"}', tenant="nobody")),
        encode(delivery(b"no cipher", body_key_id="k1/acme/2026-03-01")),
    ],
    ids=["nothing", "junk", "no JSON", "unknown tenant", "undecryptable"],
)
def test_what_names_nobody_stays_as_it_is(value: bytes | None) -> None:
    """It is replayed under the key it has, and fails again for its own reason."""
    assert rekey_with(settings())(b"old", value) == (b"old", value)


def test_a_record_under_the_right_key_stays_as_it_is_byte_for_byte() -> None:
    """The value is not written anew when nothing about it changes."""
    value = encode(delivery(b'{"service_id": "s1"}', entity_key="acme/s1"))
    assert rekey_with(settings())(b"acme/other", value) == (b"acme/s1", value)


def test_links_and_case_events_are_keyed_by_what_they_name() -> None:
    """Their value says it all."""
    link = encode(make_link("acme", "s1", SUBJECT, expected_subjects=None, registered_at=NOON))
    event = encode(CaseEvent(event_id="e", tenant="acme", case_id="s1", received_at=NOON, kind="kyb"))
    rekey = rekey_with(settings())
    assert rekey(b"x", link) == (f"acme/{SUBJECT}".encode(), link)
    assert rekey(None, event) == (b"acme/s1", event)


def test_a_key_that_is_not_configured_is_named() -> None:
    """The operator lacks it, not the record."""
    sealed = encode(delivery(b"x" * 99, body_key_id="k1/acme/2026-03-01"))
    with pytest.raises(UnknownKeyError, match="'k1'"):
        rekey_with(settings(keys=False))(b"old", sealed)
