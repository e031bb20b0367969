"""From a source's settings to its verifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ingress.signatures import (
    alchemy_raw,
    alchemy_sha1,
    alchemy_sorted,
    body_hmac,
    path_token,
    sha256_concat,
    standard_webhooks,
    timestamped_hmac,
)
from ingress.signatures.options import Options
from ingress.signatures.verifier import Verifier
from kybstream.settings import SourceSettings

SCHEMES: Mapping[str, Callable[[Options], Verifier]] = {
    "none": path_token.build,
    "hmac": body_hmac.build,
    "timestamped-hmac": timestamped_hmac.build,
    "standard-webhooks": standard_webhooks.build,
    "sha256-concat": sha256_concat.build,
    "alchemy-raw": alchemy_raw.build,
    "alchemy-sorted": alchemy_sorted.build,
    "alchemy-sha1": alchemy_sha1.build,
}


def build_verifier(source: SourceSettings) -> Verifier:
    """The verifier of a source.

    Raises:
        ConfigurationError: A setting of its scheme is missing, unknown or has a bad value; names the source and the key.
    """
    options = Options(source)
    verifier = SCHEMES[source.signature.scheme](options)
    options.finish()
    return verifier
