"""What a load of the streams must come to, whatever breaks meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from schemas.records import CaseEvent


@dataclass
class Expected:
    """What a load must come to, whatever breaks meanwhile.

    Attributes:
        first: By delivery id, the delivery that made its event; its own of a new one, None of a quarantined one.
        told: By case id, all events of the case, without ids.
        moving: By subject, the case of its registered link, and its results in order. Until the link is read they are on a
            case of the subject's own.
        linked_at: By subject, when that link was registered.
    """

    first: dict[str, str | None] = field(default_factory=dict)
    told: defaultdict[str, list[CaseEvent]] = field(default_factory=lambda: defaultdict(list))
    moving: dict[str, tuple[str, list[CaseEvent]]] = field(default_factory=dict)
    linked_at: dict[str, datetime] = field(default_factory=dict)


def merge_of(expected: Expected, subject: str, results: Sequence[CaseEvent]) -> list[CaseEvent]:
    """The events of the case of the subject's own, if these results came to it before the link was read."""
    if not results:
        return []
    case_id, _ = expected.moving[subject]
    own = f"kyc:{subject}"
    merge = msgspec.structs.replace(
        results[0],
        kind="merge",
        case_id=own,
        received_at=expected.linked_at[subject],
        merged_into=case_id,
        status=None,
        kyc_type=None,
        kyc_level=None,
        placement=None,
    )
    return [*(msgspec.structs.replace(each, case_id=own, placement="unlinked") for each in results), merge]
