"""A case as its history was written, before copies, delays and faults of the wire are added.

Times are days of the providers' time since the start of the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

from kybstream.simulator.identifiers import Company, Person
from kybstream.simulator.kyb_bodies import KybForm
from kybstream.simulator.kyc_bodies import KycStatusCode
from kybstream.simulator.planned import JoinRule


@dataclass(frozen=True, kw_only=True)
class KybStep:
    """The KYB provider announces something.

    Attributes:
        at: When, in days.
        form: Which payload.
        odd_link: Whether its `link` names another service.
        fault: The misbehaviour it shows.
    """

    at: float
    form: KybForm
    odd_link: bool = False
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class KycStep:
    """The KYC provider calls back.

    Attributes:
        at: When, in days.
        person: The subject.
        status: The result.
        join: How it finds its case.
        path_case: The case whose token is in the path, if any.
        remark_case: The case whose token is in the remark, if any.
        fault: The misbehaviour it shows.
    """

    at: float
    person: Person
    status: KycStatusCode
    join: JoinRule
    path_case: str | None = None
    remark_case: str | None = None
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class LinkStep:
    """The integrator registers a link."""

    at: float
    person: Person
    expected_subjects: int | None = None


@dataclass(frozen=True, kw_only=True)
class CaseScript:
    """The history of one case; each side is in the order of time.

    Attributes:
        company: The company of the case; also where the case id of tokens and links comes from.
        kyb: What the KYB provider announces, if anything.
        kyc: What the KYC provider calls back, if anything.
        links: What the integrator registers.
        linked: Whether the KYC subjects end on the company's case, rather than each on a provisional one.
    """

    company: Company
    kyb: tuple[KybStep, ...] = ()
    kyc: tuple[KycStep, ...] = ()
    links: tuple[LinkStep, ...] = ()
    linked: bool = True

    @property
    def label(self) -> str:
        """The lane of all that belongs to the case."""
        return f"case-{self.company.number:05d}"
