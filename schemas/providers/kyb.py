"""The KYB provider's service webhooks: nine documented payloads in seven sections, normalised.

Facts kept here come from the provider's webhook page: types, statuses, services, and that common to all payloads are only
kyb_backoffice_id, service_id, status, type, services and link. Unknown types, services and fields are kept.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec

from schemas.providers.body import JsonObject, id_text
from schemas.providers.fields import MAX_TEXT_LENGTH, Documented, FieldReader, cut_text

SERVICE_INITIATED = "service_initiated"
SERVICE_RESOLVED = "service_resolved"
DOCUMENT_PURCHASE_REQUEST = "document_purchase_request"
ONGOING_AML = "ongoing_aml_webhook"
TYPES = frozenset({SERVICE_INITIATED, SERVICE_RESOLVED, DOCUMENT_PURCHASE_REQUEST, ONGOING_AML})

PENDING = "pending"
RESOLVED = "resolved"
STATUSES = frozenset({PENDING, RESOLVED})

SERVICES = frozenset(
    {
        "questionnaire",
        "kyc",
        "kyb_check",
        "document_base_kyb",
        "aml",
        "documents",
        "aml_for_company",
        "aml_for_people",
    }
)
UNTYPED = "unknown"
"""The type of an event whose body gives none."""

LINK_SERVICE_ID_MISMATCH = "link_service_id_mismatch"

_REQUIRED = Documented(required=True)
_OPTIONAL = Documented()
DOCUMENT: dict[str, Documented] = {
    "kyb_backoffice_id": _REQUIRED,
    "service_id": _REQUIRED,
    "status": _REQUIRED,
    "type": _REQUIRED,
    "services": _REQUIRED,
    "link": _REQUIRED,
    "url_token": _OPTIONAL,
    "kyb_request_from": _OPTIONAL,
    "questionnaire_request_id": _OPTIONAL,
    "kyc_request_id": _OPTIONAL,
    "aml_request_id": _OPTIONAL,
    "kyb_request_id": _OPTIONAL,
    "document_request_id": _OPTIONAL,
    "uid": _OPTIONAL,
    "search": _OPTIONAL,
    "search_type": _OPTIONAL,
    "registration_number": _OPTIONAL,
    "document_name": _OPTIONAL,
    "document_found": _OPTIONAL,
    "description": _OPTIONAL,
}

_CHECKED = {name: documented for name, documented in DOCUMENT.items() if documented != _OPTIONAL}

_EARLIEST_EMBEDDED = datetime(2015, 1, 1, tzinfo=UTC)
_CLOCK_TOLERANCE = timedelta(days=1)
_MAX_PARAMETERS = 20
_MAX_LINK_LENGTH = 4096
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


class KybFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a KYB webhook says, without `search`, `description`, `url_token` and `link`: personal data and secrets."""

    type: str
    status: str | None
    services: tuple[str, ...]
    service_id: str | None
    kyb_backoffice_id: str | None
    link_kind: str | None
    link_service_id: str | None
    link_company_id: str | None
    id_embedded_at: datetime | None
    kyb_request_from: str | None = None
    questionnaire_request_id: str | None = None
    kyc_request_id: str | None = None
    aml_request_id: str | None = None
    kyb_request_id: str | None = None
    document_request_id: str | None = None
    uid: str | None = None
    search_type: str | None = None
    registration_number: str | None = None
    document_name: str | None = None
    document_found: bool | None
    null_fields: tuple[str, ...]
    unknown_fields: tuple[str, ...]
    violations: tuple[str, ...]

    @property
    def anomalies(self) -> tuple[str, ...]:
        """What a case should know is odd about this event."""
        if self.link_service_id and self.service_id and self.link_service_id != self.service_id:
            return (LINK_SERVICE_ID_MISMATCH,)
        return ()


def read_kyb(body: JsonObject, received_at: datetime) -> KybFacts:
    """The facts of a KYB body, whatever it holds; what breaks the document is a violation, never an error.

    Args:
        body: The JSON object.
        received_at: Receipt of the delivery; bounds what is a plausible embedded time.
    """
    reader = FieldReader(body)
    reader.check(_CHECKED)
    kind = reader.label("type")
    status = reader.label("status")
    services = reader.names("services", SERVICES)
    if kind is not None and kind not in TYPES:
        reader.note("unknown", "type")
    if status is not None and status not in STATUSES:
        reader.note("unknown", "status")
    service_id = id_text(body.get("service_id"))
    link_kind, link_service_id, link_company_id = read_link(reader.whole("link"))
    if link_service_id and service_id and link_service_id != service_id:
        reader.note("invalid", "link")
    # The fields are read before the violations they add to.
    optional = reader.present(_OPTIONAL_TEXTS)
    document_found = reader.flag("document_found")
    unknown_fields = reader.unknown_fields(DOCUMENT)
    return KybFacts(
        type=kind or UNTYPED,
        status=status,
        services=services,
        service_id=service_id,
        kyb_backoffice_id=reader.text("kyb_backoffice_id"),
        link_kind=link_kind,
        link_service_id=None if link_service_id is None else cut_text(link_service_id, MAX_TEXT_LENGTH),
        link_company_id=None if link_company_id is None else cut_text(link_company_id, MAX_TEXT_LENGTH),
        id_embedded_at=embedded_time(service_id, received_at),
        document_found=document_found,
        null_fields=reader.null_fields(DOCUMENT),
        unknown_fields=unknown_fields,
        violations=tuple(reader.violations),
        **optional,
    )


_OPTIONAL_TEXTS = (
    "kyb_request_from",
    "questionnaire_request_id",
    "kyc_request_id",
    "aml_request_id",
    "kyb_request_id",
    "document_request_id",
    "uid",
    "search_type",
    "registration_number",
    "document_name",
)


def read_link(link: str | None) -> tuple[str | None, str | None, str | None]:
    """Kind, service_id and company_id of a `link`; the link itself may open a document and is not kept."""
    if not link:
        return None, None, None
    if len(link) > _MAX_LINK_LENGTH:
        return "other", None, None
    try:
        parts = urlsplit(link)
        query = _parameters(parts.query)
    except ValueError:
        return "other", None, None
    last = parts.path.rstrip("/").rpartition("/")[2]
    kind = "get-file" if "/getFile/" in parts.path else last if last in {"cases-detail", "aml-result"} else "other"
    return kind, query.get("service_id"), query.get("company_id")


def _parameters(query: str) -> dict[str, str]:
    """The first value of each parameter; those without a value are left out."""
    if "%" in query or "+" in query or query.count("&") >= _MAX_PARAMETERS:
        return {name: values[0] for name, values in parse_qs(query, max_num_fields=_MAX_PARAMETERS).items()}
    # Nothing to decode, as in what the provider documents: a tenth of the time.
    pairs = (each.partition("=") for each in reversed(query.split("&")))
    return {name: value for name, _, value in pairs if value}


def embedded_time(service_id: str | None, received_at: datetime) -> datetime | None:
    """The creation time that the first 8 hex digits of a service_id seem to be, or None when it is not plausible.

    Plausible: from 2015 to a day after receipt. The provider documents none of this, so it is never taken as truth.
    """
    digits = (service_id or "")[:8]
    if len(digits) < 8 or not _HEX_DIGITS.issuperset(digits):  # noqa: PLR2004 (8 hex digits are 32 bits of seconds)
        return None
    moment = datetime.fromtimestamp(int(digits, 16), UTC)
    return moment if _EARLIEST_EMBEDDED <= moment <= received_at + _CLOCK_TOLERANCE else None
