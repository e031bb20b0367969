"""From a case's script to what goes over the wire: bodies, copies, tokens, and the expectation that follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kybstream.privacy import make_case_token
from kybstream.settings import SourceKind
from kybstream.simulator.config import SimulationConfig
from kybstream.simulator.copies import Copier, Copy
from kybstream.simulator.expected import KybFact, KycFact, kyb_status, kyc_status, match_state, outcome
from kybstream.simulator.identifiers import Identifiers, Person
from kybstream.simulator.kyb_bodies import Body, KybMoment
from kybstream.simulator.kyc_bodies import KycMoment, registration_callback
from kybstream.simulator.planned import ExpectedCase, JoinRule, PlannedDelivery, PlannedLink
from kybstream.simulator.script import CaseScript, KybStep, KycStep

_TOKENLESS: frozenset[JoinRule] = frozenset({"registered", "registered_late", "learned"})
_HEADERS: dict[SourceKind, tuple[tuple[str, str], ...]] = {
    "kyb-service": (("Content-Type", "application/json"),),
    "kyc-registration": (("Content-Type", "application/json;charset=UTF-8"),),
}


class Wire:
    """Turns scripts into planned deliveries, links and expectations."""

    def __init__(self, config: SimulationConfig, ids: Identifiers, copier: Copier) -> None:
        self._config = config
        self._ids = ids
        self._copier = copier

    def send(self, script: CaseScript) -> tuple[list[PlannedDelivery], list[ExpectedCase]]:
        """All deliveries of a case, and how the case (and any provisional one) must end."""
        deliveries: list[PlannedDelivery] = []
        kyb_facts: list[KybFact] = []
        for occurrence, kyb_step in enumerate(script.kyb, start=1):
            kyb_body = self._kyb_body(script, kyb_step, occurrence)
            kyb_facts.append(_kyb_fact(kyb_body))
            deliveries += self._deliveries(
                script,
                f"kyb/{occurrence}",
                "kyb-service",
                kyb_step.at,
                self._copier.kyb(kyb_body),
                fault=kyb_step.fault or ("link_names_another_service" if kyb_step.odd_link else None),
            )
        for attempt, kyc_step in enumerate(script.kyc, start=1):
            deliveries += self._deliveries(
                script,
                f"kyc/{attempt}",
                "kyc-registration",
                kyc_step.at,
                self._copier.kyc(self._kyc_body(kyc_step, attempt)),
                fault=kyc_step.fault,
                case_token=self._token(kyc_step.path_case),
                join=kyc_step.join,
            )
        return deliveries, list(self._expected(script, kyb_facts))

    def register(self, script: CaseScript) -> Iterator[PlannedLink]:
        """The links that are registered for the case."""
        for step in script.links:
            yield PlannedLink(
                at=self._config.seconds(step.at),
                case=script.label,
                case_id=script.company.service_id,
                merchant_no=step.person.merchant_no,
                sub_merchant_no=step.person.sub_merchant_no,
                user_no=step.person.user_no,
                expected_subjects=step.expected_subjects,
            )

    def _deliveries(
        self,
        script: CaseScript,
        name: str,
        source_kind: SourceKind,
        at_days: float,
        copies: Iterable[Copy],
        *,
        fault: str | None,
        case_token: str | None = None,
        join: JoinRule | None = None,
    ) -> Iterator[PlannedDelivery]:
        for attempt, copy in enumerate(copies, start=1):
            yield PlannedDelivery(
                at=self._config.seconds(at_days + copy.after_days),
                source_kind=source_kind,
                case_token=case_token,
                body=copy.body,
                headers=_HEADERS[source_kind],
                label=f"{script.label}/{name}",
                case=script.label,
                verdict="new" if attempt == 1 else "duplicate",
                attempt=attempt,
                join=join,
                fault=fault if attempt == 1 else copy.fault,
            )

    def _kyb_body(self, script: CaseScript, step: KybStep, occurrence: int) -> Body:
        return step.form(
            KybMoment(
                ids=self._ids,
                company=script.company,
                occurrence=occurrence,
                unix_seconds=self._config.unix_seconds(step.at),
                odd_link=step.odd_link,
            )
        )

    def _kyc_body(self, step: KycStep, attempt: int) -> Body:
        number = step.person.number
        token = self._token(step.remark_case)
        # The remark is the integrator's own free text; a token in it may stand alone or among other words.
        own = f"order {number}"
        remark = own if token is None else token if number % 2 else f"{own} {token}"
        return registration_callback(
            KycMoment(
                ids=self._ids,
                person=step.person,
                attempt=attempt,
                status=step.status,
                remark=remark,
                complete=number % 3 == 0,
            )
        )

    def _token(self, case_id: str | None) -> str | None:
        return None if case_id is None else make_case_token(case_id, self._config.case_token_key)

    def _expected(self, script: CaseScript, kyb_facts: list[KybFact]) -> Iterator[ExpectedCase]:
        steps = script.kyc if script.linked else ()
        kyc_facts = [KycFact(step.person.number, step.status) for step in steps]
        if kyb_facts or kyc_facts:
            wanted = max((step.expected_subjects or 1 for step in script.links), default=0)
            yield ExpectedCase(
                case_id=script.company.service_id,
                case=script.label,
                match_state=match_state(len(kyb_facts), len(kyc_facts)),
                outcome=outcome(kyb_status(kyb_facts), kyc_status(kyc_facts, expected_subjects=wanted)),
                kyb_events=len(kyb_facts),
                kyc_events=len(kyc_facts),
            )
        persons = {step.person.number: step.person for step in script.kyc}
        for person in persons.values():
            own = [step for step in script.kyc if step.person == person]
            if not script.linked:
                yield self._unlinked(script, person, own)
            elif any(step.join in _TOKENLESS for step in own):
                yield ExpectedCase(
                    case_id=self._provisional(person),
                    case=script.label,
                    required=False,
                    match_state=None,
                    outcome="merged",
                    kyb_events=None,
                    kyc_events=None,
                )

    def _unlinked(self, script: CaseScript, person: Person, steps: list[KycStep]) -> ExpectedCase:
        facts = [KycFact(person.number, step.status) for step in steps]
        return ExpectedCase(
            case_id=self._provisional(person),
            case=script.label,
            match_state="conflict" if any(step.join == "conflict" for step in steps) else "kyc_only",
            outcome=outcome("none", kyc_status(facts, expected_subjects=0)),
            kyb_events=0,
            kyc_events=len(facts),
        )

    def _provisional(self, person: Person) -> str:
        subject = self._config.pseudonymiser.subject(person.merchant_no, person.sub_merchant_no, person.user_no)
        return f"kyc:{subject}"


def _kyb_fact(body: Body) -> KybFact:
    services = body["services"]
    return KybFact(str(body["type"]), tuple(str(service) for service in services) if isinstance(services, list) else ())
