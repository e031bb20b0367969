from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ingress.proxies import TrustedProxies
from tests.ingress.harness import KYB_TOKEN, make_topics, running, settings_for, source

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:aaaa::/48"])
NEAR, FAR = "10.0.0.1", "203.0.113.9"
SENDER, STRANGER = "192.0.2.7", "198.51.100.66"


def origin(peer: str | None, *headers: tuple[str, str]) -> str | None:
    """Where the request came from, as text."""
    address = PROXIES.origin(peer, CIMultiDict(headers))
    return None if address is None else str(address)


def xff(value: str) -> tuple[str, str]:
    """One X-Forwarded-For."""
    return ("X-Forwarded-For", value)


def forwarded(value: str) -> tuple[str, str]:
    """One Forwarded."""
    return ("forwarded", value)


@pytest.mark.parametrize("header", [xff(SENDER), forwarded(f"for={SENDER}"), xff("garbage"), forwarded('for="')])
def test_a_peer_that_is_no_proxy_is_the_origin(header: tuple[str, str]) -> None:
    """Whatever a stranger writes into the headers, he is himself."""
    assert origin(STRANGER, header) == STRANGER
    assert origin(f"::ffff:{STRANGER}", header) == STRANGER


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], NEAR),
        ([xff(SENDER)], SENDER),
        ([xff(f"{SENDER}, {STRANGER}")], STRANGER),
        ([xff(f"{SENDER}, {STRANGER}, 10.1.1.1 ,10.2.2.2")], STRANGER),
        ([xff(SENDER), xff(STRANGER)], STRANGER),
        ([xff(f"garbage, , {STRANGER}")], STRANGER),
        ([xff("10.3.3.3, 10.1.1.1")], "10.3.3.3"),
        ([xff(f"{SENDER}:4711")], SENDER),
        ([xff("[2001:db8::7]:4711")], "2001:db8::7"),
        ([xff("2001:db8::7")], "2001:db8::7"),
        ([xff(f"::ffff:{SENDER}")], SENDER),
        ([xff(f"{SENDER}, 2001:db8:aaaa::1")], SENDER),
        ([forwarded(f"for={SENDER}")], SENDER),
        ([forwarded(f'For="{SENDER}:1";proto=https;by=_us , for="[2001:db8:aaaa::1]:9"')], SENDER),
        ([forwarded(f"for={SENDER}, for={STRANGER};proto=http")], STRANGER),
        ([forwarded(f"for={SENDER}"), forwarded(f"for={STRANGER}")], STRANGER),
        ([forwarded(f"for=unknown, for={STRANGER}")], STRANGER),
        ([forwarded(f'for="\\1{SENDER[1:]}"')], SENDER),
        ([xff(SENDER), forwarded(f"for={SENDER};proto=https")], SENDER),
    ],
)
def test_behind_a_proxy_the_right_most_untrusted_hop_is_the_origin(headers: list[tuple[str, str]], expected: str) -> None:
    """What a listed proxy has added counts; what stands left of a stranger's own address is the stranger's word."""
    assert origin(NEAR, *headers) == expected
    assert origin(f"::ffff:{NEAR}", *headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        [xff("")],
        [xff("unknown")],
        [xff("garbage, 10.1.1.1")],
        [xff(f"{SENDER},")],
        [xff(f"{SENDER}:x")],
        [xff(f"{SENDER}:1:2")],
        [xff("[2001:db8::7")],
        [xff("10.0.0.256")],
        [xff(f"for={SENDER}")],
        [xff("fe80::1%eth0\udcff")],
        [forwarded("")],
        [forwarded("proto=https")],
        [forwarded("for=_hidden")],
        [forwarded("for=unknown")],
        [forwarded(f"for={SENDER};for={STRANGER}")],
        [forwarded(f"for={SENDER} for={STRANGER}")],
        [forwarded(f"for={SENDER},")],
        [forwarded(f'for="{SENDER}')],
        # A stranger's open quote must not swallow what our proxy added behind it.
        [forwarded(f'for={SENDER};x=", for={STRANGER}')],
        [forwarded(f'for={SENDER};x=", for={STRANGER};by="_us"')],
        [forwarded("for=[2001:db8::7]")],
        # Two headers that disagree: one of them is a stranger's.
        [xff(STRANGER), forwarded(f"for={SENDER}")],
        [xff(SENDER), forwarded("garbage")],
        [xff("garbage"), forwarded(f"for={SENDER}")],
    ],
)
def test_what_cannot_be_told_is_nobody(headers: list[tuple[str, str]]) -> None:
    """A hidden or malformed address, broken grammar, two headers that disagree: no origin, so nobody is let in by mistake."""
    assert origin(NEAR, *headers) is None


@pytest.mark.parametrize("peer", [None, "", "somewhere", "/run/socket"])
def test_a_peer_without_an_address_is_nobody(peer: str | None) -> None:
    """A header does not make up for it."""
    assert origin(peer, xff(SENDER)) is None


PIECES = ["for=", '"', ",", ";", " ", "\\", "10.1.1.1", STRANGER, "[2001:db8:aaaa::1]", "by=_x", "x=", "unknown", "é"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=30)
LINES = st.lists(st.tuples(st.sampled_from(["X-Forwarded-For", "Forwarded"]), TEXTS), max_size=4)


@given(LINES, st.sampled_from([SENDER, "2001:db8::7"]))
def test_strangers_cannot_choose_their_address(sent: list[tuple[str, str]], address: str) -> None:
    """Whatever was in the headers, once our proxy has added what it saw, the origin is that or nobody."""
    listed = ", ".join([value for name, value in sent if name == "X-Forwarded-For"] + [address])
    others = [(name, value) for name, value in sent if name == "Forwarded"]
    assert origin(NEAR, xff(listed), *others) in {address, None}
    node = f'"[{address}]"' if ":" in address else address
    joined = ", ".join([value for name, value in sent if name == "Forwarded"] + [f"for={node};proto=https"])
    assert origin(NEAR, forwarded(joined)) in {address, None}


async def test_allow_looks_through_listed_proxies_only(noida_broker: str, topic_prefix: str) -> None:
    """Over HTTP: `allow` holds for the sender behind a listed proxy; the same header from another peer lets nobody in."""
    path = f"/webhooks/kyb/{KYB_TOKEN}"
    here, there = ["127.0.0.0/8"], ["192.0.2.0/24"]
    for proxies, allow, expected in ((here, there, [200, 404, 404, 404]), ([], there, [404] * 4), ([], here, [200] * 4)):
        settings = settings_for(noida_broker, topic_prefix, [source(allow=allow)], trusted_proxies=proxies)
        if proxies:
            await make_topics(settings.kafka)
        async with running(settings) as ingress:
            sent = [SENDER, f"{SENDER}, {STRANGER}", "garbage", None]
            answers = [await ingress.post(path, headers={"X-Forwarded-For": each} if each else None) for each in sent]
            assert [answer.status for answer in answers] == expected
            assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="peer") == expected.count(404)
