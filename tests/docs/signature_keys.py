"""The keys of each signature scheme, found by building it with options that write down what they are asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from ingress.signatures.build import SCHEMES
from ingress.signatures.options import Options
from kybstream.settings import SourceSettings

WHAT = {
    "none": "The token in the URL is all there is; it is compared in constant time. No keys.",
    "hmac": (
        "An HMAC of the body in a header, as GitHub, Shopify, Sumsub, Onfido and Veriff send it. It has no timestamp: a "
        "captured request stays valid, and the deduplication catches it."
    ),
    "timestamped-hmac": (
        "Hex HMAC-SHA256 of timestamp, joiner and body, in one header such as `t=1614265330,v1=5257a8…` (Stripe, Persona, "
        "Paddle). There may be several signatures, or several such sets, in one header or in several lines: one that fits is "
        "enough."
    ),
    "standard-webhooks": (
        "[Standard Webhooks](https://www.standardwebhooks.com), also as Svix sends it. A secret that begins with `whsec_` "
        "is base64 behind that."
    ),
    "sha256-concat": (
        "Hex SHA-256 of the body and the hex SHA-256 of the secret, or of the body and the secret itself (Shufti Pro, the "
        "sibling of the KYB provider)."
    ),
    "alchemy-raw": (
        "Base64 HMAC-SHA256 of timestamp, `POST`, path and the body as sent. Seen in a third-party client of the KYC "
        "provider, not documented."
    ),
    "alchemy-sorted": (
        "As `alchemy-raw`, with the path without its query, and the body written anew: keys sorted, no white space, without"
        " the fields that are not signed. Documented by the KYC provider for other products. A body with values that cannot be "
        "read is accepted in [a few forms](../explanation/providers.md#when-a-value-cannot-be-read)."
    ),
    "alchemy-sha1": (
        "Hex SHA-1 of app id, secret and timestamp. It does **not** cover the body: whoever has seen one request can send "
        "any body within the tolerance. Prefer any other."
    ),
}

_TOLERANCE = "how far the signed timestamp (unix seconds or milliseconds) may be from now; at most 86400"
_PATH_PREFIX = "put in front of the path before it is signed: what your proxy has taken off"
MEANINGS = {
    "header": "the header that holds the signature",
    "hash": "the hash function",
    "encoding": "of the signature",
    "hash_secret": "whether the hex SHA-256 of the secret is hashed; `false` for accounts that sign with the secret itself",
    "prefix": "what stands before the signature, as `sha256=`",
    "separator": "between the parts of the header",
    "timestamp_field": "the part that is the timestamp",
    "signature_field": "the part that is a signature",
    "joiner": "between timestamp and body in what is signed",
    "tolerance_seconds": _TOLERANCE,
    "header_prefix": "of the three headers `…id`, `…timestamp` and `…signature`",
    "timestamp_header": "the header that holds the timestamp",
    "signature_header": "the header that holds the signature",
    "path_prefix": _PATH_PREFIX,
    "unsigned_fields": "fields of the body that are not signed",
    "drop_empty": "whether nulls and empty texts of the top level are left out of what is signed",
    "app_id": "the app id that is accepted; empty: any",
    "app_id_header": "the header that holds the app id",
    "alchemy-sorted.signature_field": "the body's field with the signature where the header is missing; never signed",
}


@dataclass(frozen=True)
class Scheme:
    """What it is, and its keys: name, default as TOML (empty: required), meaning."""

    what: str
    keys: tuple[tuple[str, str, str], ...]


def scheme_keys() -> dict[str, Scheme]:
    """Every scheme by its name."""
    found = {}
    for name, build in SCHEMES.items():
        options = _Recording(name)
        build(options)
        keys = tuple(
            (key, default, (MEANINGS.get(f"{name}.{key}") or MEANINGS[key]) + options.choices.get(key, ""))
            for key, default in options.asked_for.items()
        )
        found[name] = Scheme(WHAT[name], keys)
    return found


class _Recording(Options):
    """Options that give every default, and remember which keys were asked for."""

    __slots__ = ("asked_for", "choices")

    def __init__(self, scheme: str) -> None:
        signature = {"scheme": scheme, "secrets": ["a secret of the documentation"]}
        super().__init__(
            SourceSettings.model_validate(
                {"name": "x", "kind": "kyb-service", "tenant": "x", "token": "x" * 22, "signature": signature}
            )
        )
        self.asked_for: dict[str, str] = {}
        self.choices: dict[str, str] = {}

    def text(self, key: str, default: str | None = None) -> str:
        self._note(key, default)
        return "X" if default is None else default

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        self._note(key, default)
        self.choices[key] = ": " + ", ".join(f"`{_toml(each)}`" for each in choices)
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        self._note(key, default)
        return default

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        self._note(key, default)
        return default

    def seconds(self, key: str, default: float) -> float:
        self._note(key, int(default))
        return default

    def _note(self, key: str, default: object) -> None:
        self.asked_for[key] = "" if default is None else _toml(default)


def _toml(value: object) -> str:
    # JSON is the same text in TOML for these.
    return msgspec.json.encode(value).decode()
