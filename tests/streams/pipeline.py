"""Intake and cases over logs that are plain lists, with a dict as the state: what the worker does, without Kafka."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from kybstream.privacy import Pseudonymiser, make_case_token
from schemas.codec import decode, decode_any, encode
from schemas.providers.identity import identify_bytes
from schemas.records import Case, CaseEvent, DeadLetter, Delivery, Event, Link, LinkWithdrawal, Record, WebhookDelivery
from schemas.topics import case_key, entity_key, keyless
from streams.aside import Aside
from streams.batching.records import Output
from streams.batching.records import Record as KafkaRecord
from streams.policy import TenantPolicy
from streams.processing import CasesProcess, IntakeProcess, TopicNames

NAMES = TopicNames("kyb.")
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
TOKEN_KEY = b"token-key-of-acme-000"
PSEUDONYMISER = Pseudonymiser(b"pseudonym-key-of-acme")
POLICIES: Mapping[str, TenantPolicy] = {
    "acme": TenantPolicy(PSEUDONYMISER, (TOKEN_KEY, b"older-token-key-acme")),
    "globex": TenantPolicy(Pseudonymiser(b"pseudonym-key-globex"), (b"token-key-of-globex-0",)),
}
SERVICE_ID = "667ab56f0e4e6520880"
OTHER_SERVICE_ID = "667c07eb4fca3a501e"


class DictState:
    """A table that is a dictionary."""

    def __init__(self, values: Mapping[bytes, bytes] | None = None) -> None:
        self.values = dict(values or {})

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that exist."""
        return {key: self.values[key] for key in keys if key in self.values}

    def write(self, writes: Mapping[bytes, bytes | None]) -> None:
        """Takes what a batch wrote."""
        for key, value in writes.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value


def nothing_aside() -> Aside:
    """What lies beside a key with few events."""
    return Aside(b"acme/some", DictState(), {})


def as_record(topic: str, key: str | bytes | None, value: bytes | None, offset: int = 0) -> KafkaRecord:
    """A Kafka record of one of our logs."""
    raw = key.encode() if isinstance(key, str) else key
    return KafkaRecord(topic, 0, offset, 1_772_355_600_000, raw, value, ())


def kyb_body(**changes: object) -> dict[str, object]:
    """A documented KYB body; a change to `...` leaves a field out."""
    body: dict[str, object] = {
        "kyb_backoffice_id": "kyb-3nGsq1717871",
        "service_id": SERVICE_ID,
        "type": "service_initiated",
        "status": "pending",
        "services": ["questionnaire"],
        "link": f"https://backoffice.example/cases-detail?company_id=c1&service_id={changes.get('service_id', SERVICE_ID)}",
    }
    return {name: value for name, value in (body | changes).items() if value is not ...}


def kyc_body(**changes: object) -> dict[str, object]:
    """A KYC body with the fields that matter here; a change to `...` leaves a field out."""
    body: dict[str, object] = {
        "userNo": "3db9dbe7ecd542b98f1728e4617db96f",
        "merchantNo": "TEST000001",
        "subMerchantNo": "MER10123012",
        "kycLevel": 1,
        "kycType": "1",
        "kycStatus": 1,
    }
    return {name: value for name, value in (body | changes).items() if value is not ...}


def subject_of(body: Mapping[str, object], tenant: str = "acme") -> str:
    """The pseudonym of the subject of a KYC body."""
    identity = identify_bytes("kyc-registration", msgspec.json.encode(body), POLICIES[tenant].pseudonymiser)
    assert identity is not None
    return identity.entity


@dataclass
class Door:
    """Makes deliveries as the ingress does, one delivery id after the other."""

    drawn: int = 0

    def delivery(
        self,
        body: Mapping[str, object] | bytes,
        *,
        after: timedelta = timedelta(0),
        tenant: str = "acme",
        case_token: str | None = None,
        **changes: object,
    ) -> WebhookDelivery:
        """A delivery received `after` the start; the source follows from the body."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        is_kyc = b'"userNo"' in raw
        kind = "kyc-registration" if is_kyc else "kyb-service"
        pseudonymiser = POLICIES[tenant].pseudonymiser if tenant in POLICIES else PSEUDONYMISER
        identity = identify_bytes("kyc-registration" if is_kyc else "kyb-service", raw, pseudonymiser)
        self.drawn += 1
        made = WebhookDelivery(
            delivery_id=f"delivery-{self.drawn:04}",
            received_at=START + after,
            tenant=tenant,
            source="kyc" if is_kyc else "kyb",
            source_kind=kind,
            entity_key=None if identity is None else entity_key(tenant, identity.entity),
            case_token=case_token,
            body=raw,
        )
        return msgspec.structs.replace(made, **changes)

    def record(self, delivery: WebhookDelivery) -> KafkaRecord:
        """The record that the ingress produces of it."""
        return as_record(NAMES.raw, delivery.entity_key or keyless(delivery.tenant, delivery.delivery_id), encode(delivery))


def link_record(link: Link | LinkWithdrawal) -> KafkaRecord:
    """The record of a registered link, or of a withdrawal."""
    return as_record(NAMES.links, entity_key(link.tenant, link.subject), encode(link))


@dataclass
class Told:
    """Everything that was ever produced, in order."""

    outputs: list[Output] = field(default_factory=list)

    def of(self, kind: type[Record]) -> list[Record]:
        """The records of one kind."""
        return [record for record in (decode_any(output.value or b"") for output in self.outputs) if type(record) is kind]

    @property
    def deliveries(self) -> list[Delivery]:
        """Verdicts."""
        return [decode(output.value or b"", Delivery) for output in self.outputs if output.topic == NAMES.deliveries]

    @property
    def events(self) -> list[Event]:
        """Events."""
        return [decode(output.value or b"", Event) for output in self.outputs if output.topic == NAMES.events]

    @property
    def case_events(self) -> list[CaseEvent]:
        """Changes of cases."""
        return [decode(output.value or b"", CaseEvent) for output in self.outputs if output.topic == NAMES.case_events]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """Dead letters."""
        return [decode(output.value or b"", DeadLetter) for output in self.outputs if output.topic == NAMES.dead_letters]

    def cases(self, policies: Mapping[str, TenantPolicy] = POLICIES) -> dict[str, Case]:
        """The newest snapshot of each case by its key."""
        told = run_cases([output for output in self.outputs if output.topic == NAMES.case_events], policies)
        return {case_key(snapshot.tenant, snapshot.case_id): snapshot for snapshot in told}


def run_intake(records: Iterable[KafkaRecord], policies: Mapping[str, TenantPolicy] = POLICIES) -> Told:
    """Every record as a batch of its own through the intake, with the state kept."""
    process, state, told = IntakeProcess(policies, NAMES), DictState(), Told()
    for record in records:
        result = process(0, [record], state)
        state.write(result.writes)
        told.outputs += result.outputs
    return told


def run_cases(outputs: Sequence[Output], policies: Mapping[str, TenantPolicy] = POLICIES) -> list[Case]:
    """Case events through the cases, in one batch; the snapshots in order."""
    records = [as_record(NAMES.case_events, output.key, output.value) for output in outputs]
    result = CasesProcess(policies, NAMES)(0, records, DictState())
    return [decode(output.value or b"", Case) for output in result.outputs]


# The one person of most tests, two cases, and tokens of them.
SUBJECT = subject_of(kyc_body())
PROVISIONAL = f"acme/kyc:{SUBJECT}"
CASE, OTHER_CASE = f"acme/{SERVICE_ID}", f"acme/{OTHER_SERVICE_ID}"
TOKEN, OTHER_TOKEN = make_case_token(SERVICE_ID, TOKEN_KEY), make_case_token(OTHER_SERVICE_ID, TOKEN_KEY)
