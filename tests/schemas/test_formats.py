"""Where a body has its JSON: in itself, in a JSON text, in a field of a form; and what the ingress could not undo."""

from __future__ import annotations

import gzip
import json
import time
from urllib.parse import unquote_to_bytes, urlencode

import brotli
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kybstream.encryption import BodyDecryptor
from kybstream.operations.rekeying import rekey_with
from kybstream.privacy import Pseudonymiser
from kybstream.settings import Settings, SourceSettings
from schemas.codec import decode, encode
from schemas.providers.body import UnreadableBodyError, read_body
from schemas.providers.formats import MAX_FORM_FIELDS, read_sent
from schemas.providers.identity import identify_bytes
from schemas.records import WebhookDelivery
from schemas.topics import keyless
from streams.policy import policies
from streams.processing import IntakeProcess
from tests.streams.pipeline import NAMES, DictState, Door, Told, as_record, kyb_body

PSEUDONYMISER = Pseudonymiser(b"pseudonym-key-of-acme")
TENANT = {"name": "acme", "pseudonym_key": "pseudonym-key-of-acme", "case_token_keys": ["k" * 16]}
SOURCE = {"name": "kyb", "kind": "kyb-service", "tenant": "acme", "token": "t" * 22}
CONTENT = {"service_id": "667ab5 &=+%é", "a": [1, {"b": "\N{GRINNING FACE}"}]}
TEXT = json.dumps(CONTENT, ensure_ascii=False)


def forms() -> list[tuple[str, bytes]]:
    """The content in each form."""
    return [
        ("json-text", json.dumps(TEXT).encode()),
        ("json-text", b" " + json.dumps(TEXT, ensure_ascii=False).encode() + b"\n"),
        ("form:payload", urlencode({"payload": TEXT}).encode()),
        ("form:payload", urlencode({"a": "{}", "payload": TEXT, "b": "1"}).encode() + b"\r\n"),
        ("form:data", urlencode([("data", "{}"), ("data", TEXT)]).encode()),
        ("form:a[b]", urlencode({"a[b]": TEXT}).encode()),
    ]


@pytest.mark.parametrize(("body_format", "body"), forms())
def test_the_json_is_found_where_the_source_says(body_format: str, body: bytes) -> None:
    """By the ingress, which reads the entity, and by the intake alike."""
    assert read_sent(read_body, body, body_format, None).content == CONTENT
    found = identify_bytes("kyb-service", body, PSEUDONYMISER, body_format=body_format)
    assert found is not None
    assert found.entity == CONTENT["service_id"]
    SourceSettings.model_validate(SOURCE | {"body_format": body_format})


def test_an_unreadable_value_in_it_is_read_as_ever() -> None:
    """Escaped once or twice, in a form or in a text."""
    inner = rb'{"a": "x\ud83d", "b": 1e999}'
    for body_format, body in (
        ("form:payload", b"payload=" + inner),
        ("json-text", json.dumps(inner.decode()).encode()),
        ("json-text", rb'"{\"a\": \"x\ud83d\", \"b\": 1e999}"'),
    ):
        assert read_sent(read_body, body, body_format, None).content == {"a": "x\N{REPLACEMENT CHARACTER}", "b": None}


@given(
    value=st.binary(max_size=100)
    | st.lists(st.sampled_from([b"%", b"%4", b"%41", b"\\", b"\\x41", b"+", b"\n", b"\xff"])).map(b"".join)
)
def test_a_form_is_decoded_as_the_standard_library_does(value: bytes) -> None:
    """Broken escapes, backslashes and bytes of any kind included."""
    text = b'{"a": "b"}%20' + value.replace(b"&", b"")
    found: list[bytes] = []
    read_sent(found.append, b"payload=" + text + b"&b=1", "form:payload", None)
    assert found == [unquote_to_bytes(text.replace(b"+", b" "))]


@given(body=st.binary(max_size=200), body_format=st.sampled_from([None, "json-text", "form:payload"]))
def test_any_bytes_are_an_object_or_an_error(body: bytes, body_format: str | None) -> None:
    """That quotes nothing of them."""
    for sent in (body, b"payload=" + body, b'"' + body + b'"'):
        try:
            read_sent(read_body, sent, body_format, None)
        except UnreadableBodyError as error:
            assert "payload=" not in error.detail  # noqa: PT017 - either is right


@pytest.mark.parametrize("body_format", ["", "xml", "form:", "form:" + "x" * 65, "form:a b", "json-text:", "form:é"])
def test_another_format_is_refused_at_the_start(body_format: str) -> None:
    """With the key's name."""
    with pytest.raises(ValidationError, match="body_format"):
        SourceSettings.model_validate(SOURCE | {"body_format": body_format})


def test_the_fields_of_a_form_that_are_looked_through_are_bounded() -> None:
    """And a hostile mebibyte costs no more than a sound one."""
    body = b"a=1&" * MAX_FORM_FIELDS + b"payload={}"
    with pytest.raises(UnreadableBodyError):
        read_sent(read_body, body, "form:payload", None)
    started = time.process_time()
    for sent in (b"&" * 2**20, b"payload=" + b"%" * 2**20, b"payload=" + b"%7b" * 350_000):
        assert identify_bytes("kyb-service", sent, PSEUDONYMISER, body_format="form:payload") is None
    assert time.process_time() - started < 3


def judged(settings: Settings, delivery: WebhookDelivery, key: bytes | None = None) -> Told:
    """What an intake with these settings says of a delivery."""
    key = key or (delivery.entity_key or keyless(delivery.tenant, delivery.delivery_id)).encode()
    record = as_record(NAMES.raw, key, encode(delivery))
    return Told(list(IntakeProcess(policies(settings), NAMES, BodyDecryptor({}))(0, [record], DictState()).outputs))


def configured(**source: object) -> Settings:
    """Settings with one source."""
    return Settings.model_validate({"tenants": [TENANT], "sources": [SOURCE | source]})


def test_the_intake_reads_a_record_in_its_own_format() -> None:
    """Whatever the source's setting is by then."""
    sent = Door().delivery(urlencode({"payload": json.dumps(kyb_body())}).encode(), body_format="form:payload")
    sent = msgspec.structs.replace(sent, entity_key=f"acme/{kyb_body()['service_id']}")
    for settings in (configured(), configured(body_format="json-text")):
        assert [each.verdict for each in judged(settings, sent).deliveries] == ["new"]


def test_a_delivery_in_the_wrong_format_is_read_by_a_replay_after_the_setting_is_right() -> None:
    """The record was quarantined; rekeyed under the right setting it is new, with its bytes as they came."""
    wrong = Door().delivery(urlencode({"payload": json.dumps(kyb_body())}).encode())
    assert wrong.entity_key is None
    assert [each.reason for each in judged(configured(), wrong).deliveries] == ["not_json"]
    right = configured(body_format="form:payload")
    key, value = rekey_with(right)(b"acme/!1", encode(wrong))
    replayed = decode(value or b"", WebhookDelivery)
    assert (replayed.body, replayed.body_format) == (wrong.body, "form:payload")
    assert [each.verdict for each in judged(right, replayed, key).deliveries] == ["new"]


def test_a_coding_that_cannot_be_undone_is_named_and_read_by_a_replay_after_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead letter names it; a version that knows the coding reads the delivery, with its bytes as they came."""
    content = brotli.compress(gzip.compress(msgspec.json.encode(kyb_body())))
    sent = Door().delivery(content, content_encoding="gzip, br")
    with monkeypatch.context() as older:
        older.delitem(_ways(), "br")
        (letter,) = judged(configured(), sent).dead_letters
    assert (letter.reason, letter.detail) == ("not_json", "its content coding cannot be undone: gzip, br")
    kept = decode(letter.origin_value or b"", WebhookDelivery)
    assert (kept.body, kept.content_encoding) == (content, "gzip, br")
    key, value = rekey_with(configured())(b"acme/!1", letter.origin_value)
    replayed = decode(value or b"", WebhookDelivery)
    assert replayed.body == content
    assert [each.verdict for each in judged(configured(), replayed, key).deliveries] == ["new"]


def _ways() -> dict[str, object]:
    from schemas.providers import codings  # noqa: PLC0415 - patched here only

    ways: dict[str, object] = codings._WAYS  # type: ignore[assignment]
    return ways


@pytest.mark.parametrize("encoding", ["gzip", "x", "br, gzip", "no token: \x1b[31m", "gzip" * 60])
def test_a_body_that_was_not_coded_at_all_is_read(encoding: str) -> None:
    """Some senders name a coding and do not apply it; and nothing but names of codings reaches a detail."""
    body = msgspec.json.encode(kyb_body())
    assert identify_bytes("kyb-service", body, PSEUDONYMISER, content_encoding=encoding) is not None
    assert read_sent(read_body, body, None, encoding).content == kyb_body()
    with pytest.raises(UnreadableBodyError) as refused:
        read_sent(read_body, b"\x00", None, encoding)
    assert "\x1b" not in refused.value.detail
    assert len(refused.value.detail) < 120
