"""The nine KYB payloads, field by field as the provider's webhook page shows them, with made-up values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from kybstream.simulator.identifiers import Company, Identifiers

Body: TypeAlias = dict[str, object]

_BACKOFFICE = "https://backoffice.thekyb.com"


@dataclass(frozen=True, kw_only=True)
class KybMoment:
    """What a payload is made for.

    Attributes:
        ids: Where new ids come from.
        company: Whose case it is.
        occurrence: Counts the events of the case, so that two of a form never have equal bytes.
        unix_seconds: When the provider makes it; new ids begin with it.
        odd_link: Whether `link` names another service than the body does, as in several of the published examples.
    """

    ids: Identifiers
    company: Company
    occurrence: int
    unix_seconds: int
    odd_link: bool = False

    def request_id(self, kind: str) -> str:
        """A new id of a request of that kind."""
        name = f"{kind}/{self.company.number}/{self.occurrence}"
        return self.ids.timed(name, self.unix_seconds, 13)

    def case_link(self) -> str:
        """The address of the case in the provider's back office."""
        service_id = self.company.service_id
        linked = service_id[:10] + service_id[11:] if self.odd_link else service_id
        return f"{_BACKOFFICE}/cases-detail?company_id={self.company.account_id}&service_id={linked}"


KybForm: TypeAlias = Callable[[KybMoment], Body]
"""Makes one form of payload."""


def business_information_initiated(moment: KybMoment) -> Body:
    """Business Information, 1. Service Initiated."""
    return _initiated(moment, ["questionnaire", "kyc"])


def business_information_resolved(moment: KybMoment) -> Body:
    """Business Information, 2. Service Resolved."""
    return {
        **_case(moment),
        "questionnaire_request_id": moment.request_id("questionnaire"),
        **_resolved(),
        "kyb_request_from": "backoffice",
        "services": ["questionnaire", "kyb_check", "document_base_kyb"],
        "link": moment.case_link(),
    }


def kyb_check_resolved(moment: KybMoment) -> Body:
    """KYB Check, 1. Service Resolved."""
    return {
        **_case(moment),
        **_resolved(),
        **_search(moment),
        "kyb_request_from": "backoffice",
        "services": ["kyb_check"],
        "link": moment.case_link(),
        "kyb_request_id": moment.request_id("kyb"),
    }


def document_base_initiated(moment: KybMoment) -> Body:
    """Document Base KYB, 1. Service Initiated."""
    return _initiated(moment, ["document_base_kyb"])


def document_base_resolved(moment: KybMoment) -> Body:
    """Document Base KYB, 2. Service Resolved: without the questionnaire id of its initiation."""
    return {
        **_case(moment),
        **_resolved(),
        **_search(moment),
        "kyb_request_from": "backoffice",
        "services": ["document_base_kyb"],
        "link": moment.case_link(),
        "aml_request_id": moment.request_id("aml"),
        "kyb_request_id": moment.request_id("kyb"),
    }


def aml_resolved(moment: KybMoment) -> Body:
    """AML Screening, 1. Service Resolved."""
    return {
        **_case(moment),
        "aml_request_id": moment.request_id("aml"),
        "search": f"Test Person {moment.company.number}",
        **_resolved(),
        "kyb_request_from": "backoffice",
        "services": ["aml"],
        "link": moment.case_link(),
    }


def kyc_resolved(moment: KybMoment) -> Body:
    """Know Your Customer, 1. Service Resolved: the KYB provider's own service, not the KYC provider's callback."""
    return {
        **_case(moment),
        "kyc_request_id": moment.request_id("kyc"),
        **_resolved(),
        "kyb_request_from": "backoffice",
        "services": ["kyc"],
        "link": moment.case_link(),
    }


def document_purchase_request(moment: KybMoment) -> Body:
    """Paid Documents Extraction, 1. Document Purchase Request."""
    number = moment.company.number
    file_id = moment.request_id("file")[:15]
    return {
        "document_name": "company report",
        **_case(moment),
        "kyb_request_id": moment.request_id("kyb"),
        "search": f"test company {number}",
        "registration_number": f"{10_000_000 + number}",
        "status": "resolved",
        "type": "document_purchase_request",
        "kyb_request_from": None,
        "services": ["documents"],
        "link": f"https://api.thekyb.com/api/getFile/{file_id}?download=true",
        "document_found": True,
        "description": f"Your Requested Document, 'company report' in Italy for Company 'Test Company {number}' is now ready.",
        "uid": moment.ids.hexadecimal(f"uid/{number}/{moment.occurrence}", 29),
        "document_request_id": moment.request_id("document"),
    }


def ongoing_aml(moment: KybMoment) -> Body:
    """Ongoing AML, 1. Ongoing AML."""
    request_id = moment.request_id("aml")
    return {
        **_case(moment),
        "aml_request_id": request_id,
        "search": f"test company {moment.company.number} holdings",
        "status": "resolved",
        "type": "ongoing_aml_webhook",
        "kyb_request_from": "backoffice",
        "services": ["kyb_check", "aml_for_company", "aml_for_people"],
        "link": f"{_BACKOFFICE}/aml-result?request_id={request_id}",
    }


def _case(moment: KybMoment) -> Body:
    return {"kyb_backoffice_id": moment.company.backoffice_id, "service_id": moment.company.service_id}


def _resolved() -> Body:
    return {"status": "resolved", "type": "service_resolved"}


def _search(moment: KybMoment) -> Body:
    return {"search": f"test company {moment.company.number}", "search_type": "contains"}


def _initiated(moment: KybMoment, services: list[str]) -> Body:
    name = f"url-token/{moment.company.number}/{moment.occurrence}"
    return {
        **_case(moment),
        "questionnaire_request_id": moment.request_id("questionnaire"),
        "type": "service_initiated",
        "url_token": f"{moment.ids.base62(name, 97)}{moment.unix_seconds}",
        "status": "pending",
        "services": services,
        "link": moment.case_link(),
    }
