"""Bodies are encrypted before they leave the ingress, for Kafka or for the spool, unless the settings let it go."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded.ports import free_port
from ingress.server import serve
from kybstream.errors import ConfigurationError
from kybstream.settings import Settings
from schemas.codec import decode
from schemas.records import WebhookDelivery
from schemas.topics import RAW
from tests.ingress.harness import KYB_TOKEN, decoded, deliveries_of, make_topics, records_of, running, settings_for
from tests.support.body_keys import ENCRYPTION, in_clear

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
CANARY = b"canary of a body"
BODY = b'{"service_id": "case", "search": "%s"}' % CANARY
NEW_KEY = {"id": "k2", "key": base64.b64encode(b"n" * 32).decode()}


def with_encryption(settings: Settings, encryption: object) -> Settings:
    """The settings with another section `encryption`."""
    return Settings.model_validate(settings.model_dump() | {"encryption": encryption})


async def test_no_byte_of_a_body_reaches_kafka_in_clear(noida_broker: str, topic_prefix: str) -> None:
    """What lies in the raw topic names key, tenant and day, and becomes the body with the key only."""
    settings = settings_for(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        assert (await ingress.post(KYB, BODY)).status == 200
        [record] = await records_of(settings.kafka, settings.topic(RAW))
    stored = decode(record.value, WebhookDelivery)
    assert stored.body_key_id == f"k1/acme/{stored.received_at:%Y-%m-%d}"
    told = [record.key, record.value, *(value for _, value in record.headers)]
    assert not any(CANARY in part for part in told)
    assert in_clear(stored, settings).body == BODY


async def test_a_body_is_encrypted_in_the_spool(topic_prefix: str, tmp_path: Path) -> None:
    """Without Kafka deliveries wait on disk: in no file of the spool's folder is a body in clear."""
    settings = settings_for(
        f"127.0.0.1:{free_port()}", topic_prefix, spool_dir=str(tmp_path / "spool"), ack_timeout_seconds=0.1
    )
    async with running(settings) as ingress:
        answer = await ingress.post(KYB, BODY)
        assert answer.status == 200
        spooled = b"".join(each.read_bytes() for each in (tmp_path / "spool").rglob("*") if each.is_file())
    assert answer.headers["X-Delivery-Id"].encode() in spooled
    assert CANARY not in spooled


async def test_a_new_key_encrypts_while_the_old_one_still_decrypts(noida_broker: str, topic_prefix: str) -> None:
    """The new key is put first and the old one stays behind it: every body can be read, and each names its key."""
    old = settings_for(noida_broker, topic_prefix)
    await make_topics(old.kafka)
    async with running(old) as ingress:
        assert (await ingress.post(KYB, BODY)).status == 200
    new = with_encryption(old, {"keys": [NEW_KEY, *_keys(ENCRYPTION)]})
    async with running(new) as ingress:
        assert (await ingress.post(KYB, BODY)).status == 200
    stored = await decoded(new, RAW, WebhookDelivery)
    names = sorted(str(each.body_key_id).partition("/")[0] for each in stored if isinstance(each, WebhookDelivery))
    assert names == ["k1", "k2"]
    assert [each.body for each in (await deliveries_of(new)).values()] == [BODY, BODY]


@pytest.mark.parametrize("encryption", [{}, {"keys": []}, {"required": True}], ids=["nothing", "no keys", "required"])
async def test_without_a_key_the_ingress_does_not_start(topic_prefix: str, encryption: dict[str, Any]) -> None:
    """Unless somebody says that bodies may lie in Kafka in clear, and also when nothing at all is said."""
    settings = with_encryption(settings_for("127.0.0.1:1", topic_prefix), encryption)
    with pytest.raises(ConfigurationError, match=r"^encryption\.keys is empty") as refused:
        async with asyncio.timeout(10):
            await serve(settings, stop=asyncio.Event())
    assert refused.value.hint
    assert "encryption.required = false" in refused.value.hint


async def test_a_key_may_be_let_go(noida_broker: str, topic_prefix: str) -> None:
    """With `required = false` bodies are as they were sent, and say so."""
    settings = with_encryption(settings_for(noida_broker, topic_prefix), {"required": False})
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        assert (await ingress.post(KYB, BODY)).status == 200
    [record] = await records_of(settings.kafka, settings.topic(RAW))
    stored = decode(record.value, WebhookDelivery)
    assert (stored.body, stored.body_key_id) == (BODY, None)


def _keys(encryption: dict[str, object]) -> list[object]:
    keys = encryption["keys"]
    assert isinstance(keys, list)
    return keys
