"""Raw deliveries and links as the ingress writes them, very many, and what each must come to: known before anything runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from kybstream.encryption import body_encryptor
from kybstream.privacy import Pseudonymiser, make_case_token
from kybstream.settings import Settings
from schemas.cloudevents import Headers, cloud_event_headers
from schemas.codec import encode
from schemas.links import make_link
from schemas.records import CaseEvent, CaseEventKind, WebhookDelivery
from schemas.topics import LINKS, RAW, entity_key, keyless
from tests.chaos.streams_expected import Expected
from tests.streams.pipeline import kyb_body, kyc_body

STEP = timedelta(milliseconds=10)
"""Between one receipt and the next: the longest load stays within every window."""

SPREAD = 3_000.0
"""How far apart, counted in what is sent, the parts of one case lie at most."""

REPEATED, COPIED, UNREADABLE = 0.17, 0.005, 0.002
"""Shares: sent again by the provider, written twice by the ingress, not JSON."""

_STATUSES = {1: "success", 2: "permanent_rejection", 3: "temporary_rejection"}


Joined = Literal["registered", "path_token", "remark_token", "unlinked"]


class Message(NamedTuple):
    """What is written to a topic."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


class Person(NamedTuple):
    """A subject of a case, and how the load says so."""

    number: int
    user_no: str
    joined: Joined


class Said(NamedTuple):
    """One thing that is sent.

    Attributes:
        place: Where in the load, as a number that orders it.
        case_id: Its company.
        body: A webhook's; None of a registered link.
        person: Of a callback or a link.
        repeats: The number of what it repeats, of a webhook that the provider sends again.
        number: Its own, which never changes.
    """

    place: float
    number: int
    case_id: str
    body: dict[str, object] | bytes | None
    person: Person | None = None
    token: str | None = None
    expected_subjects: int | None = None
    repeats: int | None = None


class Load:
    """A load of at least so many deliveries.

    Args:
        settings: For names, keys and pseudonyms.
        deliveries: How many.
        dice: Chooses everything.
        start: Receipt of the first.
    """

    def __init__(self, settings: Settings, deliveries: int, dice: random.Random, start: datetime) -> None:
        self._settings = settings
        self._dice = dice
        self._start = start
        (self._tenant,) = settings.tenants
        self._pseudonymiser = Pseudonymiser(self._tenant.pseudonym_key.reveal(), self._tenant.pseudonym_key_version)
        self._said: list[Said] = []
        companies = webhooks = 0
        while webhooks < deliveries:
            webhooks += self._company(companies, webhooks)
            companies += 1
        self._said.sort()
        self._subjects: dict[str, str] = {}
        self.expected = self._expect()
        self.deliveries = len(self.expected.first)

    def __len__(self) -> int:
        return len(self._said)

    def messages(self) -> Iterator[Message]:
        """What is to be written, in this order; some records twice, equal to the byte."""
        encryptor = body_encryptor(self._settings.encryption)
        assert encryptor is not None
        copies = random.Random(1)  # noqa: S311
        for index, said in enumerate(self._said):
            at = self._start + index * STEP
            if said.body is None:
                assert said.person is not None
                subject = self._subject(said.person)
                link = make_link(
                    self._tenant.name, said.case_id, subject, expected_subjects=said.expected_subjects, registered_at=at
                )
                key = entity_key(self._tenant.name, subject).encode()
                yield Message(LINKS, key, encode(link), cloud_event_headers(link))
                continue
            clear = said.body if isinstance(said.body, bytes) else msgspec.json.encode(said.body)
            name, tenant = delivery_id(said.number), self._tenant.name
            sealed, key_id = encryptor.encrypt(clear, tenant=tenant, delivery_id=name, day=at.date())
            entity = None if isinstance(said.body, bytes) else self._subject(said.person) if said.person else said.case_id
            delivery = WebhookDelivery(
                delivery_id=name,
                received_at=at,
                tenant=tenant,
                source="kyc" if said.person else "kyb",
                source_kind="kyc-registration" if said.person else "kyb-service",
                entity_key=entity and entity_key(tenant, entity),
                case_token=said.token,
                body=sealed,
                body_key_id=key_id,
            )
            key = (delivery.entity_key or keyless(tenant, name)).encode()
            message = Message(RAW, key, encode(delivery), cloud_event_headers(delivery))
            yield message
            if copies.random() < COPIED:
                yield message

    # -- what is said

    def _company(self, number: int, place: float) -> int:
        """Everything of one company; how many webhooks that makes."""
        dice, before = self._dice, len(self._said)
        seconds = int(self._start.timestamp()) - dice.randrange(86_400)
        case_id = f"{seconds:08x}{number:011x}" if number % 2 else f"case-{number}"
        at = place
        for service in dice.choice([("questionnaire",), ("questionnaire", "aml"), ("kyb_check", "documents", "kyc")]):
            for kind, status in (("service_initiated", "pending"), ("service_resolved", "resolved")):
                at += dice.uniform(0.0, SPREAD / 10)
                self._webhook(at, case_id, kyb_body(service_id=case_id, type=kind, status=status, services=[service]))
        if dice.random() < UNREADABLE * 8:
            self._webhook(place, case_id, b"{not json")
        joined: Joined | None = dice.choice(["registered", "registered", "path_token", "remark_token", "unlinked", None])
        persons = 0 if joined is None else 2 if dice.random() < 0.3 else 1
        for each in range(persons):
            assert joined is not None
            self._person(place, case_id, Person(each, f"{number * 2 + each:032x}", joined), persons)
        return sum(1 for said in self._said[before:] if said.body is not None)

    def _person(self, place: float, case_id: str, person: Person, persons: int) -> None:
        token = make_case_token(case_id, self._tenant.case_token_keys[0].reveal())
        at, dice = place + self._dice.uniform(0.0, SPREAD / 4), self._dice
        if person.joined == "registered":
            linked = place + dice.uniform(0.0, SPREAD / 2)
            self._said.append(Said(linked, len(self._said), case_id, None, person, expected_subjects=persons))
        statuses = dice.choice([(1,), (1,), (3, 1), (3, 3, 1), (2,)])
        for attempt, status in enumerate(statuses):
            # Only the first brings a token: the next ones are placed by what was learned of it.
            first = attempt == 0
            body = kyc_body(
                userNo=person.user_no,
                kycStatus=status,
                remark=f"order {attempt} {token}" if first and person.joined == "remark_token" else f"order {attempt}",
            )
            self._webhook(at, case_id, body, person, token if first and person.joined == "path_token" else None)
            at += dice.uniform(0.0, SPREAD / 8)

    def _webhook(
        self, at: float, case_id: str, body: dict[str, object] | bytes, person: Person | None = None, token: str | None = None
    ) -> None:
        number = len(self._said)
        self._said.append(Said(at, number, case_id, body, person, token))
        while not isinstance(body, bytes) and self._dice.random() < REPEATED:
            at += self._dice.uniform(0.0, SPREAD / 3)
            self._said.append(Said(at, len(self._said), case_id, body, person, token, repeats=number))

    def _subject(self, person: Person) -> str:
        known = self._subjects.get(person.user_no)
        if known is None:
            body = kyc_body()
            known = self._subjects[person.user_no] = self._pseudonymiser.subject(
                str(body["merchantNo"]), str(body["subMerchantNo"]), person.user_no
            )
        return known

    # -- what it comes to

    def _expect(self) -> Expected:
        expected = Expected()
        for index, said in enumerate(self._said):
            at, name = self._start + index * STEP, delivery_id(said.number)
            if said.body is None:
                assert said.person is not None
                subject = self._subject(said.person)
                expected.linked_at[subject] = at
                expected.told[said.case_id].append(
                    self._event(
                        "link",
                        said.case_id,
                        at,
                        subject=subject,
                        placement="registered",
                        expected_subjects=said.expected_subjects,
                    )
                )
            elif isinstance(said.body, bytes):
                expected.first[name] = None
            elif said.repeats is not None:
                expected.first[name] = delivery_id(said.repeats)
            else:
                expected.first[name] = name
                if said.person is None:
                    expected.told[said.case_id].append(self._kyb(said.case_id, at, said.body))
                else:
                    self._kyc(expected, said, said.person, at, said.body)
        return expected

    def _kyb(self, case_id: str, at: datetime, body: dict[str, object]) -> CaseEvent:
        embedded = None if case_id.startswith("case-") else datetime.fromtimestamp(int(case_id[:8], 16), at.tzinfo)
        return self._event(
            "kyb",
            case_id,
            at,
            type=body["type"],
            status=body["status"],
            services=tuple(body["services"]) if isinstance(body["services"], list) else (),
            id_embedded_at=embedded,
        )

    def _kyc(self, expected: Expected, said: Said, person: Person, at: datetime, body: dict[str, object]) -> None:
        subject, first = self._subject(person), str(body["remark"]).startswith("order 0")
        placement: str = person.joined if first or person.joined in {"registered", "unlinked"} else "learned"
        case_id = f"kyc:{subject}" if placement == "unlinked" else said.case_id
        result = self._event(
            "kyc",
            case_id,
            at,
            subject=subject,
            status=_STATUSES[int(str(body["kycStatus"]))],
            kyc_type="1",
            kyc_level="1",
            placement=placement,
        )
        expected.told[case_id].append(result)
        if placement in {"path_token", "remark_token"}:
            expected.told[case_id].append(self._event("link", case_id, at, subject=subject, placement=placement))
        if placement == "registered":
            expected.moving.setdefault(subject, (case_id, []))[1].append(result)

    def _event(self, kind: CaseEventKind, case_id: str, at: datetime, **fields: object) -> CaseEvent:
        return CaseEvent(
            event_id="",
            tenant=self._tenant.name,
            case_id=case_id,
            received_at=at,
            kind=kind,
            **fields,  # type: ignore[arg-type]  # as named above
        )


def delivery_id(number: int) -> str:
    """The id of a delivery of a load."""
    return f"delivery-{number:07}"
