"""Reading the settings that belong to one scheme, with errors that name the source and the key."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kybstream.errors import ConfigurationError
from kybstream.settings import SourceSettings

_HEADER_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""Of a field name (RFC 9110, 5.6.2)."""

MAX_SECONDS = 86_400
"""A day: so long a request that somebody has captured can be sent again."""


class Options:
    """The settings under `signature` of one source: each is read once, then `finish` refuses what is left.

    Every method raises ConfigurationError for a value it cannot take.
    """

    __slots__ = ("_left", "_source", "secrets")

    def __init__(self, source: SourceSettings) -> None:
        self._source = source.name
        extra: Mapping[str, object] = source.signature.model_extra or {}
        self._left = dict(extra)
        self.secrets = tuple(secret.reveal() for secret in source.signature.secrets)
        if any(not secret for secret in self.secrets):
            raise self.error("secrets", "a secret is empty")

    def __repr__(self) -> str:
        return f"Options(source={self._source!r})"

    def error(self, key: str, expectation: str) -> ConfigurationError:
        """The error of one key; never holds a value."""
        return ConfigurationError(
            f"sources: {self._source!r}: signature.{key}: {expectation}",
            hint="docs/reference/settings.md lists every scheme's keys.",
        )

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default it must be given."""
        value = self._left.pop(key, default)
        if value is None:
            raise self.error(key, "is missing")
        if not isinstance(value, str):
            raise self.error(key, "must be text")
        return value

    def header(self, key: str, default: str | None = None) -> str:
        """The name of a header."""
        value = self.text(key, default)
        if not value or not _HEADER_CHARACTERS.issuperset(value):
            raise self.error(key, "must be the name of a header")
        return value

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        """One of several texts."""
        value = self.text(key, default)
        if value not in choices:
            raise self.error(key, f"must be one of {', '.join(repr(choice) for choice in choices)}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._left.pop(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts."""
        value = self._left.pop(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "must be a list of texts")
        return tuple(value)

    def seconds(self, key: str, default: float) -> float:
        """A duration in seconds, more than 0 and at most a day."""
        value = self._left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not (0 < value <= MAX_SECONDS):
            raise self.error(key, f"must be a number of seconds above 0 and at most {MAX_SECONDS}")
        return float(value)

    def finish(self) -> None:
        """Refuses keys that nobody has read."""
        if self._left:
            raise self.error(min(self._left), "is not a known key of this scheme")
