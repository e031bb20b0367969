"""Making a link: the same content always makes the same link, whoever registers it."""

from __future__ import annotations

from datetime import datetime

from kybstream.ids import derived_id
from schemas.records import Link


def make_link(tenant: str, case_id: str, subject: str, *, expected_subjects: int | None, registered_at: datetime) -> Link:
    """The link as it travels; its id follows from its content."""
    return Link(
        link_id=derived_id("link", tenant, case_id, subject, str(expected_subjects), registered_at.isoformat()),
        tenant=tenant,
        case_id=case_id,
        subject=subject,
        expected_subjects=expected_subjects,
        registered_at=registered_at,
    )
