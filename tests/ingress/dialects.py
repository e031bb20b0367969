"""How senders differ from the schemes as they are by default: headers, body, and the settings that say so."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from tests.ingress.signing import BODY, MILLIS, NEW, PATH, SORTED, TS, b64, mac


def dialects() -> dict[str, tuple[dict[str, str], bytes, dict[str, Any]]]:
    """Signed requests that differ from each scheme's defaults: headers, body, the settings that must be found."""
    sha512 = hmac.new(NEW, BODY, "sha512").digest()
    sha1 = hmac.new(NEW, BODY, "sha1").hexdigest()
    paddle = mac(NEW, f"{TS}:".encode() + BODY).hex()
    bearer = f"HMAC-SHA256 {mac(NEW, BODY).hex().upper()}"
    whole_url = b64(mac(NEW, f"{TS}POSThttps://hooks.example{PATH}".encode() + BODY))
    svix = b64(mac(NEW, b"m." + TS.encode() + b"." + BODY))
    concat = hashlib.sha256(BODY + hashlib.sha256(NEW).hexdigest().encode()).hexdigest()
    in_field = b64(mac(NEW, f"{MILLIS}POST{PATH}".encode() + SORTED))
    with_empties = b'{"a":"","b":1,"dob":"x"}'
    return {
        "hmac base64 sha512": (
            {"Digest-Of": b64(sha512)},
            BODY,
            {"header": "Digest-Of", "hash": "sha512", "encoding": "base64"},
        ),
        "hmac sha1 prefix": ({"X-Hub": f"sha1={sha1}"}, BODY, {"header": "X-Hub", "hash": "sha1", "prefix": "sha1="}),
        "hmac upper case": (
            {"X-Sig": bearer},
            BODY,
            {"header": "X-Sig", "prefix": "HMAC-SHA256 "},
        ),
        "timestamped paddle": (
            {"Paddle-Signature": f"ts={TS};h1={'0' * 64};h1={paddle}"},
            BODY,
            {
                "header": "Paddle-Signature",
                "separator": ";",
                "timestamp_field": "ts",
                "signature_field": "h1",
                "joiner": ":",
            },
        ),
        "svix": (
            {"svix-id": "m", "svix-timestamp": TS, "svix-signature": f"v1,{svix}"},
            BODY,
            {"header_prefix": "svix-"},
        ),
        "timestamped rotation": (
            {"X-Sig": f"t={TS},v1={mac(b'unknown', BODY).hex()} t={TS},v1={mac(NEW, TS.encode() + b'.' + BODY).hex()}"},
            BODY,
            {"header": "X-Sig"},
        ),
        "hmac rotation": (
            {"X-Sig": f"sha256={mac(b'unknown', BODY).hex()}, sha256={mac(NEW, BODY).hex()}"},
            BODY,
            {"header": "X-Sig", "prefix": "sha256="},
        ),
        "concat plain secret": (
            {"Signature": hashlib.sha256(BODY + NEW).hexdigest()},
            BODY,
            {"hash_secret": False},
        ),
        "concat header": ({"X-Shufti": concat}, BODY, {"header": "X-Shufti"}),
        "alchemy-raw headers": (
            {"X-Time": TS, "X-Sign": b64(mac(NEW, f"{TS}POST{PATH}".encode() + BODY))},
            BODY,
            {"timestamp_header": "X-Time", "signature_header": "X-Sign"},
        ),
        "alchemy-raw whole url": (
            {
                "ach-access-timestamp": TS,
                "ach-access-sign": whole_url,
            },
            BODY,
            {"path_prefix": "https://hooks.example"},
        ),
        "alchemy-raw public path": (
            {"ach-access-timestamp": TS, "ach-access-sign": b64(mac(NEW, f"{TS}POST/api{PATH}".encode() + BODY))},
            BODY,
            {"path_prefix": "/api"},
        ),
        "alchemy-raw original path": (
            {
                "X-Original-URI": f"/edge{PATH}",
                "ach-access-timestamp": TS,
                "ach-access-sign": b64(mac(NEW, f"{TS}POST/edge{PATH}".encode() + BODY)),
            },
            BODY,
            {"path_prefix": "/edge"},
        ),
        "alchemy-sorted field": (
            {"ach-access-timestamp": MILLIS},
            BODY[:-1] + f',"sig":"{in_field}"}}'.encode(),
            {"signature_field": "sig"},
        ),
        "alchemy-sorted empties": (
            {"ach-access-timestamp": TS, "ach-access-sign": b64(mac(NEW, f'{TS}POST{PATH}{{"a":"","b":1}}'.encode()))},
            with_empties,
            {"drop_empty": False},
        ),
        "alchemy-sorted all signed": (
            {"ach-access-timestamp": TS, "ach-access-sign": b64(mac(NEW, f'{TS}POST{PATH}{{"b":1,"dob":"x"}}'.encode()))},
            with_empties,
            {"unsigned_fields": ["number"]},  # which the capture says nothing about
        ),
        "alchemy-sorted another field": (
            {"ach-access-timestamp": TS, "ach-access-sign": b64(mac(NEW, f'{TS}POST{PATH}{{"a":""}}'.encode()))},
            with_empties,
            {"unsigned_fields": ["dob", "number", "b"], "drop_empty": False},
        ),
        "alchemy-sha1 headers": (
            {"X-App": "app", "X-Time": TS, "X-Sign": hashlib.sha1(b"app" + NEW + TS.encode()).hexdigest()},  # noqa: S324
            BODY,
            {"app_id_header": "X-App", "timestamp_header": "X-Time", "signature_header": "X-Sign"},
        ),
    }
