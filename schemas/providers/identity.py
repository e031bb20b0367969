"""Which entity a body is about: the one thing the ingress reads of it, and the intake reads again."""

from __future__ import annotations

import re

import msgspec

from kybstream.privacy import Pseudonymiser
from kybstream.settings import SourceKind
from schemas.providers.body import JsonObject, UnreadableBodyError, id_text, read_ids
from schemas.providers.formats import read_sent

MAX_SERVICE_ID_LENGTH = 512
"""Characters; ids have no documented length, but a Kafka key should not become the record."""

# '!' begins keys without an entity (schemas.topics.keyless), 'kyc:' the provisional cases of KYC subjects.
_RESERVED = ("!", "kyc:")
_HALF = re.compile(r"[\ud800-\udfff]")
"""Half of a surrogate pair, which UTF-8 does not have; no body has any, but an argument of a command may."""


def is_case_id(text: str) -> bool:
    """Whether a KYB case can have this id: the one rule for webhooks, links, withdrawals and case tokens.

    Ids are opaque: any text that is not all white space, of at most `MAX_SERVICE_ID_LENGTH` characters, of up to four bytes of
    UTF-8 each. Nothing that begins as our own keys and provisional cases do.
    """
    return (
        len(text) <= MAX_SERVICE_ID_LENGTH
        and not text.isspace()
        and text != ""
        and not text.startswith(_RESERVED)
        and (text.isascii() or _HALF.search(text) is None)
    )


class Identity(msgspec.Struct, frozen=True):
    """What a body is about.

    Attributes:
        entity: The KYB `service_id`, or the pseudonym of the KYC subject.
    """

    entity: str


def identify(kind: SourceKind, body: JsonObject, pseudonymiser: Pseudonymiser) -> Identity | None:
    """The entity of a body, or None when it names no usable one."""
    if kind == "kyb-service":
        service_id = id_text(body.get("service_id"))
        return Identity(service_id) if service_id is not None and is_case_id(service_id) else None
    user_no = id_text(body.get("userNo"))
    if user_no is None:
        return None
    merchant_no = id_text(body.get("merchantNo")) or ""
    sub_merchant_no = id_text(body.get("subMerchantNo")) or ""
    return Identity(pseudonymiser.subject(merchant_no, sub_merchant_no, user_no))


def identify_bytes(
    kind: SourceKind,
    body: bytes,
    pseudonymiser: Pseudonymiser,
    body_format: str | None = None,
    content_encoding: str | None = None,
) -> Identity | None:
    """As `identify`, of a body as the record of its delivery has it; None also when it cannot be read.

    The ingress calls it between other senders' requests: it is fast whatever the body holds. Of a body that the intake cannot
    read, because it is nested too deeply, it may tell an entity all the same.
    """
    try:
        return identify(kind, read_sent(read_ids, body, body_format, content_encoding), pseudonymiser)
    except UnreadableBodyError:
        return None
