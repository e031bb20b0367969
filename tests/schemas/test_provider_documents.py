from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.privacy import Pseudonymiser
from schemas.providers.body import UnreadableBodyError, read_body
from schemas.providers.identity import Identity, identify, identify_bytes
from schemas.providers.kyb import read_kyb, read_link
from schemas.providers.kyc import DOCUMENT, read_kyc

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECEIVED = datetime(2026, 3, 1, tzinfo=UTC)
PSEUDONYMISER = Pseudonymiser(b"pseudonym-key-of-acme")

# What each published payload says, apart from what is empty.
KYB: dict[str, dict[str, object]] = {
    "01_business_information_service_initiated": {
        "type": "service_initiated",
        "status": "pending",
        "services": ("questionnaire", "kyc"),
        "service_id": "667ab56f0e4e6520880",
        "kyb_backoffice_id": "kyb-3nGsq1717871",
        "link_kind": "cases-detail",
        "link_service_id": "667ab56f0e4e6520880",
        "link_company_id": "65e429f39fac6df401f",
        "id_embedded_at": datetime(2024, 6, 25, 12, 17, 51, tzinfo=UTC),
        "questionnaire_request_id": "667ab56f0b4e652088",
    },
    "02_business_information_service_resolved": {
        "type": "service_resolved",
        "status": "resolved",
        "services": ("questionnaire", "kyb_check", "document_base_kyb"),
        "service_id": "667a5fa30e5310c084",
        "kyb_backoffice_id": "kyb-PlJMD1715907",
        "link_kind": "cases-detail",
        "link_service_id": "667a5fa30e5310c084",
        "link_company_id": "65e42983f39c6df401f",
        "id_embedded_at": datetime(2024, 6, 25, 6, 11, 47, tzinfo=UTC),
        "kyb_request_from": "backoffice",
        "questionnaire_request_id": "667a5fa40e1310c084",
    },
    "03_kyb_check_service_resolved": {
        "type": "service_resolved",
        "status": "resolved",
        "services": ("kyb_check",),
        "service_id": "667aea42a35c3e7027",
        "kyb_backoffice_id": "kyb-oidaw19331394",
        "link_kind": "cases-detail",
        "link_service_id": "667aea425c3e1d87027",
        "link_company_id": "65e429839fac6df401f",
        "id_embedded_at": datetime(2024, 6, 25, 16, 3, 14, tzinfo=UTC),
        "kyb_request_from": "backoffice",
        "kyb_request_id": "667aea43ed80476d0009b",
        "search_type": "contains",
        "violations": ("invalid:link",),
    },
    "04_document_base_kyb_service_initiated": {
        "type": "service_initiated",
        "status": "pending",
        "services": ("document_base_kyb",),
        "service_id": "667c07eb4fca3a501e",
        "kyb_backoffice_id": "kyb-AGWLO1719452",
        "link_kind": "cases-detail",
        "link_service_id": "667c07eb4fca00b3a",
        "link_company_id": "65b8ff12e583c4364",
        "id_embedded_at": datetime(2024, 6, 26, 12, 22, 3, tzinfo=UTC),
        "questionnaire_request_id": "667c07eb4f00b3a50",
        "violations": ("invalid:link",),
    },
    "05_document_base_kyb_service_resolved": {
        "type": "service_resolved",
        "status": "resolved",
        "services": ("document_base_kyb",),
        "service_id": "667ab229609e648f034",
        "kyb_backoffice_id": "kyb-jbVmB193170",
        "link_kind": "cases-detail",
        "link_service_id": "667ab229ea9e648f034",
        "link_company_id": "65e42983f39f6df401f",
        "id_embedded_at": datetime(2024, 6, 25, 12, 3, 53, tzinfo=UTC),
        "kyb_request_from": "backoffice",
        "aml_request_id": "667ab230c4679310500",
        "kyb_request_id": "667ab230c46b7931050",
        "search_type": "contains",
        "violations": ("invalid:link",),
    },
    "06_aml_screening_service_resolved": {
        "type": "service_resolved",
        "status": "resolved",
        "services": ("aml",),
        "service_id": "667a60903a90f2f305",
        "kyb_backoffice_id": "kyb-ziLTg19296144",
        "link_kind": "cases-detail",
        "link_service_id": "667a609a90f244f3055",
        "link_company_id": "65e42983f39fadf401f",
        "id_embedded_at": datetime(2024, 6, 25, 6, 15, 44, tzinfo=UTC),
        "kyb_request_from": "backoffice",
        "aml_request_id": "667a6091833fe79207",
        "violations": ("invalid:link",),
    },
    "07_know_your_customer_service_resolved": {
        "type": "service_resolved",
        "status": "resolved",
        "services": ("kyc",),
        "service_id": "666a90265eae0466097",
        "kyb_backoffice_id": "kyb-0Q3Gz17259750",
        "link_kind": "cases-detail",
        "link_service_id": "666a90265eae04c466097",
        "link_company_id": "65e42983f39fac6df401f",
        "id_embedded_at": datetime(2024, 6, 13, 6, 22, 30, tzinfo=UTC),
        "kyb_request_from": "backoffice",
        "kyc_request_id": "666a9028ab680890d9",
        "violations": ("invalid:link",),
    },
    "08_paid_documents_extraction_document_purchase_request": {
        "type": "document_purchase_request",
        "status": "resolved",
        "services": ("documents",),
        "service_id": "667a719da9d26cc974",
        "kyb_backoffice_id": "kyb-4wTbm1719300",
        "link_kind": "get-file",
        "id_embedded_at": datetime(2024, 6, 25, 7, 28, 29, tzinfo=UTC),
        "kyb_request_id": "667a719ed57ae3a192",
        "document_request_id": "66fbb985060ed120c20de",
        "uid": "0a2cf4bc21912d719a66c9b345416",
        "registration_number": "64060977",
        "document_name": "company report",
        "document_found": True,
        "null_fields": ("kyb_request_from",),
    },
    "09_ongoing_aml_ongoing_aml_webhook": {
        "type": "ongoing_aml_webhook",
        "status": "resolved",
        "services": ("kyb_check", "aml_for_company", "aml_for_people"),
        "service_id": "66b5b69d4c3ef468c7002f7",
        "kyb_backoffice_id": "kyb-ZHALX1723184797",
        "link_kind": "aml-result",
        "id_embedded_at": datetime(2024, 8, 9, 6, 26, 37, tzinfo=UTC),
        "kyb_request_from": "backoffice",
        "aml_request_id": "66b5b6a103db7af8080bfa6",
    },
}
INVALID = "08_paid_documents_extraction_document_purchase_request"


def published(name: str) -> bytes:
    """A payload as its provider published it."""
    return (FIXTURES / f"{name}.json").read_bytes()


def repaired(name: str) -> bytes:
    """The same, with the comma that the ninth payload's page lacks: what the provider surely meant."""
    return published(name).replace(b'is now ready."\n', b'is now ready.",\n')


@pytest.mark.parametrize("name", KYB)
def test_a_published_kyb_payload_says_exactly_this(name: str) -> None:
    """Every field we keep, the violations, and nothing of search, description, url_token and link."""
    facts = msgspec.structs.asdict(read_kyb(read_body(repaired(f"kyb/{name}")).content, RECEIVED))
    assert {key: value for key, value in facts.items() if value not in (None, ())} == KYB[name]


def test_all_nine_kyb_payloads_are_tested() -> None:
    """As many as the page has."""
    assert {path.stem for path in (FIXTURES / "kyb").glob("*.json")} == set(KYB)
    assert len(KYB) == 9


def test_the_payload_that_was_published_without_its_comma_is_not_repaired() -> None:
    """Live traffic like it is no JSON; it says where, and nothing of what."""
    with pytest.raises(UnreadableBodyError) as refused:
        read_body(published(f"kyb/{INVALID}"))
    assert refused.value.reason == "not_json"
    assert "malformed" in refused.value.detail
    assert "Ferrari" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(set(KYB) - {INVALID}))
def test_the_door_and_the_intake_name_the_same_kyb_entity(name: str) -> None:
    """The body's service_id, never the link's."""
    raw = published(f"kyb/{name}")
    assert identify_bytes("kyb-service", raw, PSEUDONYMISER) == Identity(str(KYB[name]["service_id"]))


def test_a_link_that_names_another_service_is_an_anomaly_of_the_case() -> None:
    """The body wins; both are kept, and the difference is flagged."""
    same, other = (
        read_kyb(read_body(published(f"kyb/{name}")).content, RECEIVED)
        for name in ("02_business_information_service_resolved", "03_kyb_check_service_resolved")
    )
    assert (same.anomalies, other.anomalies) == ((), ("link_service_id_mismatch",))


def test_the_published_kyc_callback_says_exactly_this() -> None:
    """Codes and numbers of merchants in clear, persons as pseudonyms, and the seven violations of the page's own example."""
    facts = read_kyc(read_body(published("kyc/registration_callback")).content, PSEUDONYMISER)
    assert {key: value for key, value in msgspec.structs.asdict(facts).items() if value not in (None, ())} == {
        "type": "kyc_result",
        "status": "success",
        "kyc_type": "1",
        "kyc_level": "1",
        "kyc_platform": "onfido",
        "country": "CHN",
        "id_doc_type": "1",
        "merchant_no": "TEST000001",
        "sub_merchant_no": "MER10123012",
        "email_pseudonym": PSEUDONYMISER.pseudonym("email", "[email\N{NO-BREAK SPACE}protected]"),
        "number_pseudonym": PSEUDONYMISER.pseudonym("number", "110101198802109990"),
        "user_num_pseudonym": PSEUDONYMISER.pseudonym("userNum", "101016958103533043054"),
        "violations": (
            "missing:additionalNumber",
            "missing:redirectUrl",
            "missing:street",
            "missing:city",
            "missing:state",
            "missing:zipCode",
            "missing:address",
        ),
    }


def test_the_kyc_document_has_29_fields_and_three_undocumented_ones() -> None:
    """27 required and two optional in the table; three that only the example shows. `country` and `number` are optional."""
    assert len(DOCUMENT) == 29 + 3
    optional = {name for name, field in DOCUMENT.items() if not field.required}
    assert optional == {"country", "number", "amlReport", "idvReport", "kycPlatform"}


def test_a_kyc_subject_is_merchant_and_sub_merchant_and_user() -> None:
    """A user number alone identifies nobody; missing merchants count as empty, and numbers as their text."""
    body = read_body(published("kyc/registration_callback")).content
    whole = identify("kyc-registration", body, PSEUDONYMISER)
    expected = PSEUDONYMISER.subject("TEST000001", "MER10123012", "3db9dbe7ecd542b98f1728e4617db96f")
    assert whole == Identity(expected)
    others = [{**body, "merchantNo": "M2"}, {**body, "subMerchantNo": None}, {**body, "userNo": "0"}]
    assert len({identify("kyc-registration", other, PSEUDONYMISER) for other in [body, *others]}) == 4
    assert identify("kyc-registration", {**body, "userNo": 7}, PSEUDONYMISER) == identify(
        "kyc-registration", {**body, "userNo": "7"}, PSEUDONYMISER
    )


QUERY_PARTS = ["service_id=1", "service_id=", "x", "company_id=a=b", "service_id=2", "=", "", "%73ervice_id=9", "a=+"]
QUERIES = st.text(alphabet="=&%+;2Fé_service_idcompany", max_size=60) | st.lists(st.sampled_from(QUERY_PARTS), max_size=25).map(
    "&".join
)


@given(query=QUERIES)
@settings(max_examples=500, deadline=None)
def test_parameters_of_a_link_are_read_as_the_standard_library_reads_them(query: str) -> None:
    """Also those that the quick way is taken for: nothing encoded, few parameters."""
    try:
        expected = {
            name: values[0] for name, values in parse_qs(urlsplit(f"https://x/a?{query}").query, max_num_fields=20).items()
        }
    except ValueError:
        assert read_link(f"https://x/a?{query}") == ("other", None, None)
    else:
        assert read_link(f"https://x/a?{query}")[1:] == (expected.get("service_id"), expected.get("company_id"))
