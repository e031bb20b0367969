"""Bodies that name no entity or are no JSON object: the receiver acknowledges and quarantines them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from kybstream.settings import SourceKind
from kybstream.simulator.kyb_bodies import Body


def encode(body: Body) -> bytes:
    """A body as the providers write it."""
    return json.dumps(body, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True)
class Malformation:
    """One way to spoil a body.

    Attributes:
        name: Also the fault of the planned delivery.
        source_kind: Whose body is spoilt. For the KYB provider it is a document purchase request.
        documented: Whether the provider's own document shows it.
        spoil: Makes the malformed bytes of a well-formed body.
    """

    name: str
    source_kind: SourceKind
    documented: bool = False
    spoil: Callable[[Body], bytes]


def _without_comma(body: Body) -> bytes:
    """The published mistake: no comma between `description` and `uid`."""
    return json.dumps(body, indent=0).encode().replace(b',\n"uid"', b'\n"uid"')


def _truncated(body: Body) -> bytes:
    whole = encode(body)
    return whole[: len(whole) // 2]


def _empty(_body: Body) -> bytes:
    return b""


def _in_a_list(body: Body) -> bytes:
    return b"[" + encode(body) + b"]"


def _without(field: str) -> Callable[[Body], bytes]:
    def spoil(body: Body) -> bytes:
        return encode({name: value for name, value in body.items() if name != field})

    return spoil


MALFORMATIONS: tuple[Malformation, ...] = (
    Malformation(name="invalid_document_payload", source_kind="kyb-service", documented=True, spoil=_without_comma),
    Malformation(name="truncated_json", source_kind="kyb-service", spoil=_truncated),
    Malformation(name="empty_body", source_kind="kyb-service", spoil=_empty),
    Malformation(name="not_an_object", source_kind="kyb-service", spoil=_in_a_list),
    Malformation(name="missing_service_id", source_kind="kyb-service", spoil=_without("service_id")),
    Malformation(name="truncated_json", source_kind="kyc-registration", spoil=_truncated),
    Malformation(name="empty_body", source_kind="kyc-registration", spoil=_empty),
    Malformation(name="not_an_object", source_kind="kyc-registration", spoil=_in_a_list),
    Malformation(name="missing_user_no", source_kind="kyc-registration", spoil=_without("userNo")),
)
"""Every malformed body the simulation knows."""
