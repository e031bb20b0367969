"""What is told of each delivery: its verdict, as a record. Pure."""

from __future__ import annotations

from schemas.records import Delivery, WebhookDelivery
from streams.intake_state import Occurrence


def judged(
    delivery: WebhookDelivery,
    occurrence: Occurrence,
    case_id: str,
    event_type: str,
    violations: tuple[str, ...],
    *,
    is_new: bool,
) -> Delivery:
    """The verdict of a delivery that made an event, or repeats one."""
    return Delivery(
        delivery_id=delivery.delivery_id,
        received_at=delivery.received_at,
        tenant=delivery.tenant,
        source=delivery.source,
        source_kind=delivery.source_kind,
        verdict="new" if is_new else "duplicate",
        event_id=occurrence.event_id,
        first_delivery_id=occurrence.delivery_id,
        entity_key=delivery.entity_key,
        case_id=case_id,
        event_type=event_type,
        violations=violations,
        body_size=len(delivery.body),
    )


def quarantined(delivery: WebhookDelivery, reason: str) -> Delivery:
    """The verdict of a delivery that cannot be processed."""
    return Delivery(
        delivery_id=delivery.delivery_id,
        received_at=delivery.received_at,
        tenant=delivery.tenant,
        source=delivery.source,
        source_kind=delivery.source_kind,
        verdict="quarantined",
        reason=reason,
        entity_key=delivery.entity_key,
        body_size=len(delivery.body),
    )
