from __future__ import annotations

import pytest

from kybstream.errors import RunError, UnavailableError
from kybstream.simulator import Target
from kybstream.simulator.reachability import PATIENCE_BEFORE_CONTACT_SECONDS, REFUSALS_BEFORE_CONTACT, Reachability

TARGET = Target(kyb_url="http://host:1/webhooks/kyb/token", kyc_url="http://host:1/webhooks/kyc/token")


def test_a_receiver_that_answered_before_may_be_away_for_the_whole_patience() -> None:
    """A restart is no failure, and the patience begins anew with each outage."""
    reachability = Reachability(TARGET, patience_seconds=30)
    reachability.answered("kyb-service", 200, now=0.0)
    for start in (10.0, 60.0):
        reachability.unanswered("kyb-service", now=start)
        reachability.unanswered("kyb-service", now=start + 29.9)
        reachability.answered("kyb-service", 503, now=start + 29.95)
    reachability.unanswered("kyb-service", now=100.0)
    with pytest.raises(UnavailableError, match="no answer from http://host:1"):
        reachability.unanswered("kyb-service", now=130.0)


def test_a_receiver_that_never_answered_is_given_up_soon() -> None:
    """It is most likely a wrong address."""
    reachability = Reachability(TARGET, patience_seconds=30)
    reachability.unanswered("kyb-service", now=0.0)
    with pytest.raises(UnavailableError):
        reachability.unanswered("kyb-service", now=PATIENCE_BEFORE_CONTACT_SECONDS)


def test_one_source_may_be_refused_while_the_other_is_not() -> None:
    """A wrong token of the KYC source is told although the KYB source is fine."""
    reachability = Reachability(TARGET, patience_seconds=30)
    for _ in range(REFUSALS_BEFORE_CONTACT):
        reachability.answered("kyb-service", 200, now=0.0)
    for _ in range(REFUSALS_BEFORE_CONTACT - 1):
        reachability.answered("kyc-registration", 404, now=0.0)
    with pytest.raises(RunError, match="kyc-registration"):
        reachability.answered("kyc-registration", 404, now=0.0)


def test_a_source_that_took_something_may_refuse_later() -> None:
    """Then a refusal is an event of the run (a key rotated, say), and not a mistake in the address."""
    reachability = Reachability(TARGET, patience_seconds=30)
    reachability.answered("kyb-service", 200, now=0.0)
    for _ in range(REFUSALS_BEFORE_CONTACT * 2):
        reachability.answered("kyb-service", 401, now=1.0)
