from __future__ import annotations

from pathlib import Path

import pytest

from kybstream.privacy import Pseudonymiser
from kybstream.simulator.identifiers import id_number_is_valid
from schemas.providers.body import NOT_JSON, UnreadableBodyError, read_body
from schemas.providers.identity import identify

FIXTURES = Path(__file__).parents[2] / "fixtures"
INVALID = "08_paid_documents_extraction_document_purchase_request.json"
KYB = sorted((FIXTURES / "kyb").glob("*.json"))


@pytest.mark.parametrize("path", [path for path in KYB if path.name != INVALID], ids=lambda path: path.stem)
def test_the_published_kyb_payloads_are_readable_and_name_their_case(path: Path) -> None:
    """Eight of the nine payloads parse as they are published."""
    assert identify("kyb-service", read_body(path.read_bytes()).content, Pseudonymiser(b"a pseudonym key")) is not None


def test_there_are_nine_kyb_payloads() -> None:
    """The page shows nine."""
    assert len(KYB) == 9


def test_the_document_purchase_example_is_invalid_and_stays_so() -> None:
    """A comma is missing in the document itself; nobody repairs it."""
    with pytest.raises(UnreadableBodyError) as caught:
        read_body((FIXTURES / "kyb" / INVALID).read_bytes())
    assert caught.value.reason == NOT_JSON


def test_the_published_kyc_callback_is_readable_and_synthetic() -> None:
    """It parses, names a subject, and its id number can be nobody's."""
    body = read_body((FIXTURES / "kyc" / "registration_callback.json").read_bytes()).content
    assert identify("kyc-registration", body, Pseudonymiser(b"a pseudonym key")) is not None
    assert not id_number_is_valid(str(body["number"]))
