"""Several signatures in one request: a sender that changes its secret signs with the old and the new one for a while."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.signatures.timestamped_hmac import parts
from ingress.signatures.verifier import Verdict
from tests.ingress.signing import NEW, OLD, SIGNERS, TS, Lines, sign_standard, sign_timestamped, verify


def rotations(scheme: str) -> dict[str, tuple[Lines, Lines]]:
    """What a sender that changes its secret sends: headers with both signatures, and with two that are nobody's.

    The new secret is ours, the old one is not: in each form ours comes first, last, and in a header line of its own.
    """
    sign, _ = SIGNERS[scheme]
    *others, (name, ours) = sign(NEW).items()
    *_, old = sign(OLD).values()
    *_, strange = sign(b"somebody else's secret").values()
    found: dict[str, tuple[Lines, Lines]] = {}
    for joint in (" ", ",", ", ", "  ", "\t"):
        found[f"first, then {joint!r}"] = ([*others, (name, ours + joint + old)], [*others, (name, old + joint + strange)])
        found[f"last, after {joint!r}"] = ([*others, (name, old + joint + ours)], [*others, (name, strange + joint + old)])
    found["the first line"] = ([*others, (name, ours), (name, old)], [*others, (name, strange), (name, old)])
    found["the last line"] = ([*others, (name, old), (name, ours)], [*others, (name, old), (name, strange)])
    return found


@pytest.mark.parametrize("scheme", ["hmac", "timestamped-hmac", "standard-webhooks", "sha256-concat"])
def test_during_a_rotation_any_valid_signature_is_enough(scheme: str) -> None:
    """Wherever ours stands among those of other secrets; among others only there is none."""
    for form, (with_ours, without) in rotations(scheme).items():
        extra = SIGNERS[scheme][1] | {"secrets": [NEW.decode()]}
        assert verify(scheme, with_ours, **extra) is Verdict.VALID, form
        assert verify(scheme, without, **extra) is Verdict.BAD_SIGNATURE, form


@pytest.mark.parametrize("joint", [None, ",", ", ", " "], ids=["own lines", "comma", "comma and space", "space"])
def test_sets_of_a_rotation_may_begin_or_end_with_their_timestamp(joint: str | None) -> None:
    """One line ends with a timestamp and the next begins with one: each is whole, also where a proxy has joined them."""
    extra: dict[str, Any] = {"header": "X-Sig", "secrets": [NEW.decode()]}

    def sent(*sets: str) -> Lines:
        return [("X-Sig", each) for each in (sets if joint is None else [joint.join(sets)])]

    other = str(int(TS) - 5)
    *_, theirs = parts(sign_timestamped(OLD)["X-Sig"], ",")
    ours = sign_timestamped(NEW, timestamp=other)["X-Sig"]
    ended = f"v1={theirs[1]},t={TS}"
    assert verify("timestamped-hmac", sent(ended, ours), **extra) is Verdict.VALID
    assert verify("timestamped-hmac", sent(ended, f"t={other},v1={theirs[1]}"), **extra) is Verdict.BAD_SIGNATURE
    for unclear in (f"t={TS},{ours}", f"t={other},t={TS}", f"{ended},t={other},t={TS},v1={theirs[1]}"):
        assert verify("timestamped-hmac", sent(unclear, ours), **extra) is Verdict.MALFORMED


@pytest.mark.parametrize("text", ["v1,v1,{}", "v1 {}", "v1, {}", "v2,{}", "{}", "v1,{},", ",v1,{}", "v2,v1,{}"])
def test_a_signature_stands_behind_its_version(text: str) -> None:
    """Commas around a line are a proxy's; what else is out of step is no signature."""
    *others, (name, value) = sign_standard(NEW).items()
    verdict = verify("standard-webhooks", [*others, (name, text.format(value.removeprefix("v1,")))])
    assert verdict is (Verdict.VALID if text.strip(",") == "v1,{}" else Verdict.MALFORMED)


def test_sets_of_a_rotation_have_their_own_timestamps() -> None:
    """A stale set does no harm to a recent one, and its signature does not count; stale sets alone are stale."""
    stale = str(int(TS) - 301)
    ours, theirs = sign_timestamped(NEW)["X-Sig"], sign_timestamped(OLD, timestamp=stale)["X-Sig"]
    extra: dict[str, Any] = {"header": "X-Sig", "secrets": [NEW.decode()]}
    for text in (f"{ours} {theirs}", f"{theirs},{ours}"):
        assert verify("timestamped-hmac", {"X-Sig": text}, **extra) is Verdict.VALID
    ours_is_stale = sign_timestamped(NEW, timestamp=stale)["X-Sig"]
    text = f"{ours_is_stale} {sign_timestamped(OLD)['X-Sig']}"
    assert verify("timestamped-hmac", {"X-Sig": text}, **extra) is Verdict.BAD_SIGNATURE
    assert verify("timestamped-hmac", {"X-Sig": f"{theirs} {ours_is_stale}"}, **extra) is Verdict.STALE_TIMESTAMP


@pytest.mark.parametrize("scheme", ["hmac", "timestamped-hmac", "standard-webhooks", "sha256-concat"])
def test_the_signatures_that_are_tried_are_bounded(scheme: str) -> None:
    """Sixteen: a header of thousands would cost as many comparisons."""
    sign, extra = SIGNERS[scheme]
    *others, (name, ours) = sign(NEW).items()
    *_, old = sign(OLD).values()
    for count, expected in ((15, Verdict.VALID), (16, Verdict.MALFORMED)):
        assert verify(scheme, [*others, (name, " ".join([old] * count + [ours]))], **extra) is expected


def test_the_timestamps_that_are_tried_are_bounded() -> None:
    """Four: each costs a hash of the body."""
    sets = [sign_timestamped(NEW, timestamp=str(int(TS) - number))["X-Sig"] for number in range(5)]
    for count, expected in ((4, Verdict.VALID), (5, Verdict.MALFORMED)):
        assert verify("timestamped-hmac", {"X-Sig": " ".join(sets[:count])}, header="X-Sig") is expected
