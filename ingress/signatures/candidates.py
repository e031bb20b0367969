"""The settings that a captured request could have been signed under: for each scheme what its headers and body suggest.

A header is a candidate only if its value has the form that the scheme needs: what can never match is not tried. Settings that
have their default are left out, so that what matches can be pasted as it is.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import itertools
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ingress.signatures.listed import listed
from ingress.signatures.sorted_json import NotAnObjectError, Value, parse_object
from ingress.signatures.timestamped_hmac import parts
from ingress.signatures.unreadable_json import parse_marked
from ingress.signatures.verifier import SignedRequest

OptionValue: TypeAlias = str | bool | tuple[str, ...]
Options: TypeAlias = Mapping[str, OptionValue]

_HASHES = ("sha256", "sha1", "sha512")
_PREFIX = re.compile(r"(?:[A-Za-z][A-Za-z0-9_./-]{0,23}[=:, ] ?)?")
_DIGITS = re.compile(r"[0-9]{9,18}")
_UNSIGNED = ("dob", "number")
"""The two fields that the KYC provider's document marks as not signed."""

_MAX_FIELDS = 64
"""Fields of a body of which each is tried as a further unsigned one."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What a scheme's candidates are made from.

    Attributes:
        request: The captured request, its body inflated.
        path_prefixes: What a proxy may have taken off the path; begins with the empty one.
    """

    request: SignedRequest
    path_prefixes: Sequence[str] = ("",)


def body_hmac(hints: Hints) -> Iterator[Options]:
    """Each header that ends with something as long as a hash; what stands before it is the prefix."""
    for name, value in _headers(hints, first_of_several=True):
        for hash_name, encoding in itertools.product(_HASHES, ("hex", "base64")):
            size = hashlib.new(hash_name, usedforsecurity=False).digest_size
            text = value[-_length(size, encoding) :]
            prefix = value.removesuffix(text)
            if _decoded(text, encoding) == size and _PREFIX.fullmatch(prefix):
                yield _changed(
                    {"header": name, "hash": hash_name, "encoding": encoding, "prefix": prefix},
                    {"hash": "sha256", "encoding": "hex", "prefix": ""},
                )


def timestamped_hmac(hints: Hints) -> Iterator[Options]:
    """Each header of `name=value` pairs, with each pair of a number and a hash in it."""
    defaults = {"separator": ",", "timestamp_field": "t", "signature_field": "v1", "joiner": "."}
    for (name, value), separator in itertools.product(_headers(hints), (",", ";")):
        fields = [(field, text) for field, text in parts(value, separator) if _is_text(field) and separator in value]
        timestamps = dict.fromkeys(field for field, text in fields if _DIGITS.fullmatch(text))
        signatures = dict.fromkeys(field for field, text in fields if _decoded(text, "hex") == hashlib.sha256().digest_size)
        for timestamp, signature, joiner in itertools.product(timestamps, signatures, (".", ":")):
            options = {"separator": separator, "timestamp_field": timestamp, "signature_field": signature, "joiner": joiner}
            yield {"header": name} | _changed(options, defaults)


def standard_webhooks(hints: Hints) -> Iterator[Options]:
    """Each header prefix of which all three headers are there."""
    for prefix in ("webhook-", "svix-"):
        if all(prefix + part in hints.request.headers for part in ("id", "timestamp", "signature")):
            yield _changed({"header_prefix": prefix}, {"header_prefix": "webhook-"})


def sha256_concat(hints: Hints) -> Iterator[Options]:
    """Each header that is a SHA-256 in hex, of the hashed and of the plain secret."""
    size = hashlib.sha256().digest_size
    names = [name for name, value in _headers(hints, first_of_several=True) if _decoded(value, "hex") == size]
    for name, hash_secret in itertools.product(names, (True, False)):
        yield _changed({"header": name, "hash_secret": hash_secret}, {"header": "Signature", "hash_secret": True})


def alchemy_raw(hints: Hints) -> Iterator[Options]:
    """Each header that is a number, with each that is a SHA-256 in Base64, under each path prefix."""
    signatures = _of_form(hints, "base64", hashlib.sha256().digest_size)
    for timestamp, signature, prefix in itertools.product(_numbers(hints), signatures, hints.path_prefixes):
        yield _alchemy(timestamp, prefix, {"signature_header": signature})


def alchemy_sorted(hints: Hints) -> Iterator[Options]:
    """As `alchemy_raw`, the signature in a field of the body as well, and each way to leave fields of the body out."""
    body = _object(hints.request.body)
    if body is None:
        return
    size = hashlib.sha256().digest_size
    places: list[Options] = [{"signature_header": name} for name in _of_form(hints, "base64", size)]
    for field, value in body.items():
        if isinstance(value, str) and _decoded(value, "base64") == size and _is_text(field):
            places.append(_changed({"signature_field": field}, {"signature_field": "signature"}))
    for timestamp, place, prefix in itertools.product(_numbers(hints), places, hints.path_prefixes):
        for left_out in _ways_to_leave_out(body):
            yield {**_alchemy(timestamp, prefix, place), **left_out}


def alchemy_sha1(hints: Hints) -> Iterator[Options]:
    """Each header that is a number, with each that is a SHA-1 in hex, and any third that could be an app id."""
    signatures = _of_form(hints, "hex", hashlib.sha1(usedforsecurity=False).digest_size)
    names = [name for name, value in _headers(hints) if value]
    for app_id, timestamp, signature in itertools.product(names, _numbers(hints), signatures):
        if len({app_id, timestamp, signature}) == 3:  # noqa: PLR2004 - three headers
            yield _changed(
                {"app_id_header": app_id, "timestamp_header": timestamp, "signature_header": signature},
                {"app_id_header": "appId", "timestamp_header": "timestamp", "signature_header": "sign"},
            )


CANDIDATES: Mapping[str, tuple[Callable[[Hints], Iterator[Options]], str]] = {
    "hmac": (body_hmac, "a header that ends with a SHA-256, SHA-1 or SHA-512 in hex or Base64"),
    "timestamped-hmac": (timestamped_hmac, "a header such as t=<unix time>,v1=<hex>"),
    "standard-webhooks": (standard_webhooks, "headers webhook-id, webhook-timestamp and webhook-signature, or svix-…"),
    "sha256-concat": (sha256_concat, "a header that is a SHA-256 in hex"),
    "alchemy-raw": (alchemy_raw, "a header that is a unix time, and one that is a SHA-256 in Base64"),
    "alchemy-sorted": (
        alchemy_sorted,
        "a header that is a unix time, a SHA-256 in Base64 in a header or a field, and a JSON body",
    ),
    "alchemy-sha1": (alchemy_sha1, "three headers: an app id, a unix time, and a SHA-1 in hex"),
}
"""What makes the candidates of each scheme, and what a request must have for any."""


def _object(body: bytes) -> Mapping[str, Value] | None:
    for parse in (parse_object, parse_marked):
        with contextlib.suppress(NotAnObjectError):
            return parse(body)
    return None


def _ways_to_leave_out(body: Mapping[str, Value]) -> Iterator[Options]:
    """First the default; then each choice among the documented fields, alone and with one further field of the body.

    Of those that leave the same fields only the first: they sign the same bytes.
    """
    further = [name for name in itertools.islice(body, _MAX_FIELDS) if name not in _UNSIGNED and _is_text(name)]
    documented = [each for count in (2, 1, 0) for each in itertools.combinations(_UNSIGNED, count)]
    seen: set[frozenset[str]] = set()
    for one, chosen, drop_empty in itertools.product(((), *((name,) for name in further)), documented, (True, False)):
        unsigned = (*chosen, *one)
        left = frozenset(
            name for name, value in body.items() if name not in unsigned and not (drop_empty and (value is None or value == ""))
        )
        if left not in seen:
            seen.add(left)
            yield _changed(
                {"unsigned_fields": unsigned, "drop_empty": drop_empty}, {"unsigned_fields": _UNSIGNED, "drop_empty": True}
            )


def _alchemy(timestamp: str, prefix: str, place: Options) -> Options:
    return _changed(
        {"timestamp_header": timestamp, "path_prefix": prefix} | dict(place),
        {"timestamp_header": "ach-access-timestamp", "signature_header": "ach-access-sign", "path_prefix": ""},
    )


def _changed(options: Options, defaults: Options) -> dict[str, OptionValue]:
    return {name: value for name, value in options.items() if not _same(name, value, defaults.get(name))}


def _same(name: str, value: OptionValue, default: OptionValue | None) -> bool:
    if name.endswith("header") and isinstance(value, str) and isinstance(default, str):
        return value.lower() == default.lower()
    return value == default


def _headers(hints: Hints, *, first_of_several: bool = False) -> list[tuple[str, str]]:
    """The first value of each header: what a scheme looks at. With `first_of_several` also the first that is listed in it."""
    first: dict[str, tuple[str, str]] = {}
    for name, value in hints.request.headers.items():
        first.setdefault(name.lower(), (str(name), value))
    found = list(first.values())
    if first_of_several:
        for name, value in first.values():
            found += [(name, one) for one in dict.fromkeys((value.partition(",")[0], *listed([value])[:1])) if one != value]
    return found


def _numbers(hints: Hints) -> list[str]:
    return [name for name, value in _headers(hints) if _DIGITS.fullmatch(value)]


def _of_form(hints: Hints, encoding: str, size: int) -> list[str]:
    return [name for name, value in _headers(hints) if _decoded(value, encoding) == size]


def _decoded(text: str, encoding: str) -> int | None:
    """How many bytes the text stands for, or None when it is not of that encoding."""
    try:
        return len(bytes.fromhex(text) if encoding == "hex" else b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None


def _is_text(name: str) -> bool:
    """Whether it can be written into a configuration: header bytes and JSON escapes can be no characters."""
    return name.isprintable()


def _length(size: int, encoding: str) -> int:
    return 2 * size if encoding == "hex" else (size + 2) // 3 * 4
