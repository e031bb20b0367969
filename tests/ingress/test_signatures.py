"""The schemes, with the published vector of Standard Webhooks and vectors of our own (labelled so) for the others.

The vectors of our own were made with `openssl dgst` and `sha256sum` over the bytes that each scheme describes, not with the
code under test.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ingress.signatures.build import SCHEMES, build_verifier
from ingress.signatures.verifier import SignedRequest, Verdict
from kybstream.errors import ConfigurationError
from kybstream.settings import SourceSettings
from tests.ingress.signing import (
    BODY,
    MILLIS,
    NEW,
    NOW,
    OLD,
    PATH,
    SIGNERS,
    TIMESTAMPED,
    TS,
    b64,
    mac,
    sign_alchemy_raw,
    sign_alchemy_sorted,
    verify,
)

HEADER_TEXT = st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
"""As the HTTP server decodes header bytes."""
EACH = pytest.mark.parametrize("scheme", SIGNERS)


def test_standard_webhooks_published_vector() -> None:
    """The vector that the Standard Webhooks libraries publish is accepted, under both header prefixes."""
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    for prefix in ("webhook-", "svix-"):
        verdict = verify(
            "standard-webhooks",
            {
                f"{prefix}id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
                f"{prefix}timestamp": "1614265330",
                f"{prefix}signature": f"v2,abc {signature}",
            },
            b'{"test": 2432232314}',
            now=datetime.fromtimestamp(1614265330, UTC),
            secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            header_prefix=prefix,
        )
        assert verdict is Verdict.VALID


def test_every_scheme_is_tested_here() -> None:
    """No scheme is missing from these tests."""
    assert SIGNERS.keys() | {"none"} == SCHEMES.keys()
    assert verify("none", {}, secrets=[]) is Verdict.VALID


@EACH
def test_each_of_several_secrets_is_accepted(scheme: str) -> None:
    """During a rotation old and new secret both count; a third does not."""
    sign, extra = SIGNERS[scheme]
    assert verify(scheme, sign(NEW), **extra) is Verdict.VALID
    assert verify(scheme, sign(OLD), **extra) is Verdict.VALID
    assert verify(scheme, sign(b"somebody else's secret"), **extra) is Verdict.BAD_SIGNATURE


@EACH
def test_another_body_is_refused(scheme: str) -> None:
    """The signature covers the body, but for alchemy-sha1, whose weakness is documented."""
    sign, extra = SIGNERS[scheme]
    expected = Verdict.VALID if scheme == "alchemy-sha1" else Verdict.BAD_SIGNATURE
    assert verify(scheme, sign(NEW), BODY.replace(b"u1", b"u2"), **extra) is expected


@EACH
def test_missing_and_malformed_headers_are_told_apart(scheme: str) -> None:
    """Without its header a request is `missing_header`; with a header of another form `malformed`."""
    sign, extra = SIGNERS[scheme]
    headers = dict(sign(NEW))
    for name in headers:
        assert verify(scheme, {key: value for key, value in headers.items() if key != name}, **extra) is Verdict.MISSING_HEADER
    signature = list(headers)[-1]
    for value in ("", "no signature", "é", "v1,", "t=1", "sha256=zz"):
        assert verify(scheme, headers | {signature: value}, **extra) in {Verdict.MALFORMED, Verdict.BAD_SIGNATURE}
    assert verify(scheme, headers | {signature: "zz!"}, **extra) is Verdict.MALFORMED


@pytest.mark.parametrize("scheme", sorted(TIMESTAMPED))
def test_timestamps_are_held_against_the_tolerance(scheme: str) -> None:
    """Up to 300 s in either direction is accepted, more is `stale_timestamp`; the tolerance is a setting."""
    sign, extra = SIGNERS[scheme]
    headers = sign(NEW)
    for seconds, expected in ((300, Verdict.VALID), (301, Verdict.STALE_TIMESTAMP)):
        for direction in (1, -1):
            now = NOW + direction * timedelta(seconds=seconds)
            assert verify(scheme, headers, now=now, **extra) is expected
    later = NOW + timedelta(seconds=3000)
    assert verify(scheme, headers, now=later, tolerance_seconds=3000, **extra) is Verdict.VALID
    for timestamp in ("soon", "-1", "1" * 30, "", "1e9", "٣"):
        assert verify(scheme, sign(NEW, timestamp=timestamp), **extra) in {Verdict.MALFORMED, Verdict.STALE_TIMESTAMP}


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_hmac_hashes_and_encodings(hash_name: str, encoding: str) -> None:
    """Every hash in both encodings; hex of either case."""
    digest = hmac.new(NEW, BODY, hash_name).digest()
    text = digest.hex().upper() if encoding == "hex" else b64(digest)
    assert verify("hmac", {"x-Digest": text}, header="X-Digest", hash=hash_name, encoding=encoding) is Verdict.VALID


def test_hmac_own_vector() -> None:
    """A vector of our own: `printf '{"a":1}' | openssl dgst -sha256 -hmac key-of-the-vector`."""
    signature = "1018662e14a870258877fb66a16543a93c081c0069802aa16fff70ee7b4816f2"
    assert verify("hmac", {"X-Sig": signature}, b'{"a":1}', header="X-Sig", secrets=["key-of-the-vector"]) is Verdict.VALID


def test_sha256_concat_own_vector() -> None:
    """A vector of our own: `sha256sum` over the body followed by the hex `sha256sum` of the secret."""
    assert (
        verify(
            "sha256-concat",
            {"Signature": "f9716e25f786323b9c9889b398cd04eec0adbc0c2f6ea2de12e26f42ff282dff"},
            b'{"a":1}',
            secrets=["key-of-the-vector"],
        )
        is Verdict.VALID
    )


def test_alchemy_sha1_own_vector() -> None:
    """A vector of our own: `printf 'app-1key-of-the-vector1767323045000' | sha1sum`."""
    headers = {"appId": "app-1", "timestamp": MILLIS, "sign": "5d27cf7dcb28769d842e40afa980c002d2604e03"}
    assert verify("alchemy-sha1", headers, secrets=["key-of-the-vector"]) is Verdict.VALID


def test_timestamped_hmac_takes_other_dialects_and_several_signatures() -> None:
    """Separator, field names and joiner are settings; one right signature among several is enough."""
    signature = mac(OLD, TS.encode() + b":" + BODY).hex()
    dialect: dict[str, Any] = {
        "separator": ";",
        "timestamp_field": "ts",
        "signature_field": "h1",
        "joiner": ":",
        "header": "Paddle-Signature",
    }
    header = f"ts={TS};h1={'0' * 64};h1={signature}"
    assert verify("timestamped-hmac", {"Paddle-Signature": header}, **dialect) is Verdict.VALID
    two_times = f"ts={TS};ts={TS};h1={signature}"
    assert verify("timestamped-hmac", {"Paddle-Signature": two_times}, **dialect) is Verdict.MALFORMED


def test_sha256_concat_takes_the_plain_secret_where_it_is_set() -> None:
    """As older accounts sign; a vector of our own: `printf '{"a":1}key-of-the-vector' | sha256sum`."""
    headers = {"Signature": "4072cac5fdd40f4f80c5015e0b746bd1b6f829f56747b021d5d5544d4c8039c2"}
    extra: dict[str, Any] = {"secrets": ["key-of-the-vector"]}
    assert verify("sha256-concat", headers, b'{"a":1}', hash_secret=False, **extra) is Verdict.VALID
    assert verify("sha256-concat", headers, b'{"a":1}', **extra) is Verdict.BAD_SIGNATURE


def test_alchemy_paths_can_be_given_their_prefix_back() -> None:
    """`path_prefix` is what a proxy took off; alchemy-sorted leaves the query out, alchemy-raw signs it."""
    for scheme, sign in (("alchemy-raw", sign_alchemy_raw), ("alchemy-sorted", sign_alchemy_sorted)):
        assert verify(scheme, sign(NEW), path=PATH.removeprefix("/webhooks"), path_prefix="/webhooks") is Verdict.VALID
    assert verify("alchemy-sorted", sign_alchemy_sorted(NEW), path=PATH + "?a=1") is Verdict.VALID
    assert verify("alchemy-raw", sign_alchemy_raw(NEW), path=PATH + "?a=1") is Verdict.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("scheme", "extra", "key", "expectation"),
    [
        ("hmac", {}, "header", "is missing"),
        ("hmac", {"header": "X Sig"}, "header", "must be the name of a header"),
        ("hmac", {"header": "X", "hash": "md5"}, "hash", "must be one of 'sha256', 'sha1', 'sha512'"),
        ("hmac", {"header": "X", "encoding": 1}, "encoding", "must be text"),
        ("hmac", {"header": "X", "tolerance_seconds": 1}, "tolerance_seconds", "is not a known key of this scheme"),
        ("none", {"header": "X"}, "header", "is not a known key of this scheme"),
        ("timestamped-hmac", {"header": "X", "tolerance_seconds": 0}, "tolerance_seconds", "must be a number of seconds"),
        ("standard-webhooks", {"header_prefix": "x-"}, "header_prefix", "must be one of 'webhook-', 'svix-'"),
        ("standard-webhooks", {"secrets": ["whsec_$$$"]}, "secrets", "is not base64"),
        ("sha256-concat", {"secrets": [""]}, "secrets", "a secret is empty"),
        ("alchemy-sorted", {"unsigned_fields": "dob"}, "unsigned_fields", "must be a list of texts"),
        ("alchemy-sorted", {"drop_empty": "yes"}, "drop_empty", "must be true or false"),
    ],
)
def test_bad_settings_name_source_and_key(scheme: str, extra: dict[str, Any], key: str, expectation: str) -> None:
    """A configuration error says which source, which key and what is expected, and never a secret."""
    with pytest.raises(ConfigurationError) as caught:
        verify(scheme, {}, **extra)
    assert caught.value.message.startswith(f"sources: 'kyc': signature.{key}: ")
    assert expectation in caught.value.message
    assert "$$$" not in caught.value.message


@EACH
def test_secrets_are_not_shown(scheme: str) -> None:
    """No verifier and no request shows secrets, tokens or bodies in its `repr`."""
    sign, extra = SIGNERS[scheme]
    settings = {"scheme": scheme, "secrets": [NEW.decode()], **extra}
    source = SourceSettings.model_validate(
        {"name": "k", "kind": "kyb-service", "tenant": "acme", "token": "t" * 22, "signature": settings}
    )
    shown = repr(build_verifier(source)) + repr(SignedRequest("POST", PATH, CIMultiDict(sign(NEW)), BODY)) + repr(source)
    for hidden in (NEW.decode(), hashlib.sha256(NEW).hexdigest(), "c1.a.b", "1990-01-01", "t" * 22):
        assert hidden not in shown


@EACH
@given(body=st.binary(max_size=200), values=st.lists(HEADER_TEXT, min_size=3, max_size=3))
def test_nothing_makes_a_verifier_raise(scheme: str, body: bytes, values: list[str]) -> None:
    """Whatever headers and body hold, the answer is a verdict, and not `valid`."""
    sign, extra = SIGNERS[scheme]
    headers = dict(zip(sign(NEW), values, strict=False))
    assert not verify(scheme, headers, body, **extra).accepted
    if scheme != "alchemy-sha1":  # which does not look at the body
        assert not verify(scheme, sign(NEW), body + b"x", **extra).accepted
