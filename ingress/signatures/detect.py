"""Which scheme, with which settings and which secret, signed a captured request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from ingress.signatures.build import build_verifier
from ingress.signatures.candidates import CANDIDATES, Hints, Options
from ingress.signatures.verifier import SignedRequest
from kybstream.errors import ConfigurationError
from kybstream.settings import Secret, SourceSettings
from kybstream.settings.tenancy import SignatureSettings

_ANY_TIME = 1e18
"""Seconds: captures are old, so that no timestamp is too old here."""

_ORIGINAL_PATHS = ("X-Original-URI", "X-Original-URL", "X-Forwarded-Uri", "X-Envoy-Original-Path", "X-Replaced-Path")


@dataclass(frozen=True, slots=True)
class Match:
    """What gives the signature that was sent.

    Attributes:
        scheme: Its name.
        options: Its settings, without those that have their default, the tolerance and the secrets.
        secret: The name under which the secret was given.
        timestamped: Whether requests must be recent under it; the capture's age was not looked at.
    """

    scheme: str
    options: Options
    secret: str
    timestamped: bool

    def toml(self, secret: str) -> str:
        """The line for the configuration; `secret` is a reference such as `env:NAME`."""
        values = {"scheme": self.scheme, **self.options, "secrets": [secret]}
        return "signature = { " + ", ".join(f"{key} = {_toml(value)}" for key, value in values.items()) + " }"


@dataclass(frozen=True, slots=True)
class Detection:
    """What came of it.

    Attributes:
        matches: The plainest first: more than one when the schemes agree on this request.
        tried: How many combinations of settings were tried, by scheme; each with each secret.
    """

    matches: tuple[Match, ...]
    tried: Mapping[str, int]


def detect(
    source: SourceSettings, request: SignedRequest, secrets: Mapping[str, Secret], path_prefixes: Sequence[str]
) -> Detection:
    """Tries every scheme with all settings that the request suggests, by the verifiers that the ingress uses.

    Args:
        source: Whose signature it is; its own scheme is not looked at.
        request: As captured, its body inflated.
        secrets: Each is tried alone, by the name it is called in the result.
        path_prefixes: What a proxy may have taken off the path; begins with the empty one.
    """
    hints = Hints(request, path_prefixes)
    matches: list[Match] = []
    tried: dict[str, int] = {}
    for scheme, (make, _) in CANDIDATES.items():
        found = list({_toml(sorted(options.items())): options for options in make(hints)}.values())
        tried[scheme] = len(found)
        for name, secret in secrets.items():
            for options in found:
                timestamped = _accepts(source, request, scheme, secret, options)
                if timestamped is not None:
                    matches.append(Match(scheme, options, name, timestamped))
    return Detection(tuple(sorted(matches, key=lambda match: len(match.options))), tried)


def path_prefixes(request: SignedRequest, public_url: str, given: Sequence[str]) -> list[str]:
    """What may stand in front of the captured path where it was signed, most likely first, without repetition.

    Nothing; what was given; the path of our public URL; what the headers of proxies tell; and, for senders that sign the
    whole URL, scheme and host before each of these.
    """
    headers = request.headers
    public = urlsplit(public_url)
    prefixes = ["", *given, public.path.rstrip("/"), headers.get("X-Forwarded-Prefix", "").rstrip("/")]
    for name in _ORIGINAL_PATHS:
        original = headers.get(name, "")
        if original.endswith(request.path):
            prefixes.append(original.removesuffix(request.path))
    hosts = [public.netloc, headers.get("Host", ""), headers.get("X-Forwarded-Host", "")]
    origins = [f"{scheme}://{host}" for host in dict.fromkeys(hosts) if host for scheme in ("https", "http")]
    whole = [origin + prefix for origin in origins for prefix in prefixes]
    return [prefix for prefix in dict.fromkeys([*prefixes, *whole]) if prefix.isprintable()]


def _accepts(source: SourceSettings, request: SignedRequest, scheme: str, secret: Secret, options: Options) -> bool | None:
    """Whether the scheme has a timestamp, if it accepts the request; else None."""
    signature = SignatureSettings.model_validate({"scheme": scheme, "secrets": [secret], **options})
    try:
        verifier = build_verifier(source.model_copy(update={"signature": signature}))
    except ConfigurationError:
        return None  # the scheme does not take this secret (whsec_…)
    timestamped = hasattr(verifier, "tolerance_seconds")
    if timestamped:
        verifier = replace(verifier, tolerance_seconds=_ANY_TIME)  # type: ignore[type-var]  # all schemes with one are dataclasses
    return timestamped if verifier.verify(request, datetime.now(UTC)).accepted else None


def _toml(value: object) -> str:
    # A JSON string, boolean or list of these is the same text in TOML, but for DEL.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007F")
