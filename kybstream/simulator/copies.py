"""How often each event is delivered: the provider did not see the 200, or simply sent it twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from kybstream.simulator.chance import Deck
from kybstream.simulator.config import SECONDS_PER_DAY, Faults
from kybstream.simulator.kyb_bodies import Body
from kybstream.simulator.malformed import encode
from kybstream.simulator.retries import KYB_ATTEMPTS, KYC_ATTEMPTS

ONGOING_AML = "ongoing_aml_webhook"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One delivery of an event.

    Attributes:
        after_days: Days of the providers' time after the first delivery.
        body: The bytes; all copies of an event have equal content.
        fault: The misbehaviour this copy shows; None for the first.
    """

    after_days: float
    body: bytes
    fault: str | None


class Copier:
    """Decides on the deliveries of one event after another."""

    def __init__(self, rng: Random, faults: Faults) -> None:
        kyc = [(1, 33), (2, 6), (4, 3), (5, 4), (10, 2), (40, 1), (len(KYC_ATTEMPTS), 1)]
        self._kyc = Deck(rng, kyc if faults != "none" else [(1, 1)])
        self._kyb = Deck(rng, [(1, 17), (2, 2), (4, 1)] if faults == "all" else [(1, 1)])
        self._ongoing = Deck(rng, [(1, 2), (2, 1)] if faults == "all" else [(1, 1)])
        self._rewritten = Deck(rng, [(False, 2), (True, 1)])

    def kyc(self, body: Body) -> list[Copy]:
        """Deliveries of a callback. Two: doubled without a failure; more: the schedule ran until a 200 was seen."""
        count = self._kyc.draw()
        fault = "kyc_doubled" if count == 2 else "kyc_retries"  # noqa: PLR2004 (a pair)
        written = encode(body)
        return [
            Copy(after_days=seconds / SECONDS_PER_DAY, body=written, fault=fault if seconds else None)
            for seconds in KYC_ATTEMPTS[:count]
        ]

    def kyb(self, body: Body) -> list[Copy]:
        """Deliveries of a KYB webhook, some of them written anew: other white space and order, the same content."""
        ongoing = body["type"] == ONGOING_AML
        count = (self._ongoing if ongoing else self._kyb).draw()
        copies = [Copy(after_days=0.0, body=encode(body), fault=None)]
        for seconds in KYB_ATTEMPTS[1:count]:
            rewritten = not ongoing and self._rewritten.draw()
            copies.append(
                Copy(
                    after_days=seconds / SECONDS_PER_DAY,
                    body=json.dumps(body, sort_keys=True).encode() if rewritten else encode(body),
                    fault="ongoing_aml_repeat" if ongoing else "kyb_rewritten" if rewritten else "kyb_repeat",
                )
            )
        return copies
