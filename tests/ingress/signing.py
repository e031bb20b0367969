"""Signatures as senders of each scheme make them, and verifiers of the ingress that know their secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from multidict import CIMultiDict

from ingress.signatures.build import build_verifier
from ingress.signatures.verifier import SignedRequest, Verdict
from kybstream.settings import SourceSettings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TS = str(int(NOW.timestamp()))
MILLIS = TS + "000"
PATH = "/webhooks/kyc/token/c1.a.b"
BODY = b'{"z":1.10,"userNo":"u1","dob":"1990-01-01","empty":"","none":null,"a":{"y":"\xc3\xa9","b":[true,2]}}'
SORTED = b'{"a":{"b":[true,2],"y":"\xc3\xa9"},"userNo":"u1","z":1.10}'
OLD, NEW = b"an old secret of the tests", b"a new secret of the tests"
Headers = Mapping[str, str]
Lines = Sequence[tuple[str, str]]


def verify(
    scheme: str, headers: Headers | Lines, body: bytes = BODY, *, now: datetime = NOW, path: str = PATH, **extra: Any
) -> Verdict:
    """The verdict of a scheme that knows the new and the old secret."""
    secrets = extra.pop("secrets", [NEW.decode(), OLD.decode()])
    source = SourceSettings.model_validate(
        {
            "name": "kyc",
            "kind": "kyc-registration",
            "tenant": "acme",
            "token": "t" * 22,
            "signature": {"scheme": scheme, "secrets": secrets, **extra},
        }
    )
    return build_verifier(source).verify(SignedRequest("POST", path, CIMultiDict(headers), body), now)


def mac(secret: bytes, message: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.new(secret, message, hashlib.sha256).digest()


def b64(raw: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(raw).decode()


def sign_hmac(secret: bytes, body: bytes = BODY, timestamp: str = TS, path: str = PATH) -> Headers:
    """As a sender of `hmac` does."""
    del timestamp, path
    return {"X-Sig": "sha256=" + mac(secret, body).hex()}


def sign_timestamped(secret: bytes, body: bytes = BODY, timestamp: str = TS, path: str = PATH) -> Headers:
    """As a sender of `timestamped-hmac` does."""
    del path
    return {"X-Sig": f"t={timestamp},v1={mac(secret, timestamp.encode() + b'.' + body).hex()}"}


def sign_standard(secret: bytes, body: bytes = BODY, timestamp: str = TS, path: str = PATH) -> Headers:
    """As a sender of `standard-webhooks` does."""
    del path
    signature = b64(mac(secret, b"msg_1." + timestamp.encode() + b"." + body))
    return {"webhook-id": "msg_1", "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def sign_concat(secret: bytes, body: bytes = BODY, timestamp: str = TS, path: str = PATH) -> Headers:
    """As a sender of `sha256-concat` does."""
    del timestamp, path
    return {"Signature": hashlib.sha256(body + hashlib.sha256(secret).hexdigest().encode()).hexdigest()}


def sign_alchemy_raw(secret: bytes, body: bytes = BODY, timestamp: str = MILLIS, path: str = PATH) -> Headers:
    """As a sender of `alchemy-raw` does."""
    signature = b64(mac(secret, f"{timestamp}POST{path}".encode() + body))
    return {"ach-access-timestamp": timestamp, "ach-access-sign": signature}


def sign_alchemy_sorted(secret: bytes, body: bytes = BODY, timestamp: str = MILLIS, path: str = PATH) -> Headers:
    """As a sender of `alchemy-sorted` does."""
    canonical = SORTED if body == BODY else body
    signature = b64(mac(secret, f"{timestamp}POST{path}".encode() + canonical))
    return {"ach-access-timestamp": timestamp, "ach-access-sign": signature}


def sign_alchemy_sha1(secret: bytes, body: bytes = BODY, timestamp: str = MILLIS, path: str = PATH) -> Headers:
    """As a sender of `alchemy-sha1` does."""
    del body, path
    signature = hashlib.sha1(b"app" + secret + timestamp.encode()).hexdigest()  # noqa: S324 - the scheme's own
    return {"appId": "app", "timestamp": timestamp, "sign": signature}


Signer = Callable[..., Headers]
SIGNERS: dict[str, tuple[Signer, dict[str, Any]]] = {
    "hmac": (sign_hmac, {"header": "X-Sig", "prefix": "sha256="}),
    "timestamped-hmac": (sign_timestamped, {"header": "X-Sig"}),
    "standard-webhooks": (sign_standard, {}),
    "sha256-concat": (sign_concat, {}),
    "alchemy-raw": (sign_alchemy_raw, {}),
    "alchemy-sorted": (sign_alchemy_sorted, {}),
    "alchemy-sha1": (sign_alchemy_sha1, {"app_id": "app"}),
}
TIMESTAMPED = {"timestamped-hmac", "standard-webhooks", "alchemy-raw", "alchemy-sorted", "alchemy-sha1"}
