from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.rate_limits import Bucket, RateLimit, draw
from kybstream.settings import Settings
from tests.ingress.harness import (
    KYB_TOKEN,
    KYC_TOKEN,
    SECRET,
    deliveries_of,
    make_topics,
    running,
    settings_for,
    source,
)
from tests.ingress.signing import sign_hmac
from tests.support.body_keys import ENCRYPTION

KYB = f"/webhooks/kyb/{KYB_TOKEN}"


@given(
    st.lists(st.floats(0, 5), max_size=60),
    st.floats(0.1, 50),
    st.integers(1, 20),
)
def test_no_stretch_of_time_has_more_than_burst_and_rate(gaps: list[float], per_second: float, burst: int) -> None:
    """Between any two moments at most the burst and the rate's share are taken; after the wait that is told one is."""
    bucket, now = Bucket(burst, 0.0), 0.0
    taken: list[float] = []
    for gap in gaps:
        now += gap
        bucket, wait = draw(bucket, now, per_second=per_second, burst=burst)
        if wait:
            assert draw(bucket, now + wait + 1e-6, per_second=per_second, burst=burst)[1] == 0.0
        else:
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - start) * per_second + 1e-6


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    """Time that seems to pass twice is counted once."""
    bucket, _ = draw(Bucket(1.0, 100.0), 100.0, per_second=1.0, burst=1.0)
    bucket, wait = draw(bucket, 50.0, per_second=1.0, burst=1.0)
    assert wait == 1.0
    assert draw(bucket, 100.5, per_second=1.0, burst=1.0)[1] == 0.5


def test_without_a_burst_a_second_may_come_at_once() -> None:
    """The default burst is the rate, and at least one delivery."""
    for per_second, expected in ((0.001, 1), (3.2, 4), (100.0, 100)):
        limit = RateLimit(per_second, None)
        assert sum(limit.draw(7.0) == 0.0 for _ in range(200)) == expected


def limited(bootstrap: str, prefix: str, sources: list[dict[str, Any]], **limit: Any) -> Settings:
    """Settings with a limit for `acme`, and a second tenant without one."""
    tenants = [
        {"name": name, "pseudonym_key": "k" * 32, "case_token_keys": ["c" * 32], **changes}
        for name, changes in (("acme", limit), ("other", {}))
    ]
    plain = settings_for(bootstrap, prefix, []).model_dump(exclude={"tenants", "sources"})
    return Settings.model_validate({**plain, "encryption": ENCRYPTION, "tenants": tenants, "sources": sources})


async def test_beyond_the_limit_a_tenant_gets_429_and_others_do_not(noida_broker: str, topic_prefix: str) -> None:
    """All sources of a tenant share its limit: 429 with the seconds to wait, counted as `rate_limited`, nothing stored."""
    sources = [source(), source("more", token=KYC_TOKEN), source("other", tenant="other")]
    settings = limited(noida_broker, topic_prefix, sources, rate_limit_per_second=0.01, rate_limit_burst=3)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        assert [(await ingress.post(KYB)).status for _ in range(2)] == [200, 200]
        assert (await ingress.post(f"/webhooks/more/{KYC_TOKEN}")).status == 200
        answer = await ingress.post(f"/webhooks/more/{KYC_TOKEN}")
        assert answer.status == 429
        assert 90 < int(answer.headers["Retry-After"]) <= 100
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert (await ingress.post(KYB)).status == 429
        assert (await ingress.post(f"/webhooks/other/{KYB_TOKEN}")).status == 200
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="rate_limited") == 1
        assert len(await deliveries_of(settings)) == 4


async def test_strangers_cannot_use_up_a_limit(noida_broker: str, topic_prefix: str) -> None:
    """Wrong tokens and wrong signatures draw nothing."""
    signature = {"scheme": "hmac", "secrets": [SECRET], "header": "X-Sig", "prefix": "sha256="}
    settings = limited(noida_broker, topic_prefix, [source(signature=signature)], rate_limit_per_second=0.01)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        for _ in range(3):
            assert (await ingress.post(KYB, b"{}", sign_hmac(b"somebody else's secret", b"{}"))).status == 401
            assert (await ingress.post(f"{KYB}x", b"{}", sign_hmac(SECRET.encode(), b"{}"))).status == 404
        right = sign_hmac(SECRET.encode(), b"{}")
        assert [(await ingress.post(KYB, b"{}", right)).status for _ in range(2)] == [200, 429]


def test_a_burst_without_a_rate_is_refused() -> None:
    """It would limit nothing."""
    with pytest.raises(ValueError, match="rate_limit_burst needs rate_limit_per_second"):
        limited("localhost:9092", "x.", [], rate_limit_burst=3)
