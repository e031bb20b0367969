"""Making a link, and taking it back: the same content always makes the same record, whoever makes it."""

from __future__ import annotations

from datetime import datetime

from kybstream.ids import derived_id
from schemas.records import Link, LinkWithdrawal


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


def make_withdrawal(tenant: str, case_id: str, subject: str, *, withdrawn_at: datetime) -> LinkWithdrawal:
    """The withdrawal of every link of this subject and case that was registered until then; its id follows from its content."""
    return LinkWithdrawal(
        withdrawal_id=derived_id("link-withdrawal", tenant, case_id, subject, withdrawn_at.isoformat()),
        tenant=tenant,
        case_id=case_id,
        subject=subject,
        withdrawn_at=withdrawn_at,
    )
