"""Reading documented fields of a body: values for the event, and violations of the document, which never reject."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import msgspec

from schemas.providers.body import Json, JsonObject, code_text, id_text

MAX_NAMED_UNKNOWN = 50
MAX_FIELD_NAME_LENGTH = 100

MAX_TEXT_LENGTH = 512
"""Characters of a text in an event: the longest that a document of either provider allows."""
MAX_CODE_BYTES = 128
"""Bytes in UTF-8 of a coded value, such as a type, a status or a level; the longest documented one has 32 characters."""
MAX_NAME_BYTES = 64
"""Bytes in UTF-8 of one name in a list, such as a service; the longest documented one has 17."""
MAX_UNDOCUMENTED_NAMES = 8
"""Names of a list that the document does not know; those that it knows are all kept."""

TOTALS = "(all)"
"""The name by which views have totals, in the place of a service."""

_CUT = "…"
_DIGEST_LENGTH = 16


class Documented(NamedTuple):
    """What a document says of one field.

    Attributes:
        required: Whether a body without it breaks the document.
        max_length: Characters; None where the document gives no length.
    """

    required: bool = False
    max_length: int | None = None


def cut_text(text: str, characters: int) -> str:
    """The text with at most so many characters: of a longer one the beginning, and a digest of the whole.

    So two texts that differ are still two after they were cut.
    """
    if len(text) <= characters:
        return text
    return text[: characters - len(_CUT) - _DIGEST_LENGTH] + _CUT + _digest(text)


def cut_code(text: str, size: int) -> str:
    """As `cut_text`, with at most so many bytes of UTF-8."""
    if len(text) * 4 <= size:
        return text
    raw = text.encode("utf-8", "replace")
    if len(raw) <= size:
        return text
    kept = size - len(_CUT.encode()) - _DIGEST_LENGTH
    return raw[:kept].decode("utf-8", "ignore") + _CUT + _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]


def _length(value: Json) -> int:
    """Characters of a value; of a list or an object those of its JSON."""
    if isinstance(value, str):
        return len(value)
    return len(msgspec.json.encode(value).decode()) if isinstance(value, list | dict) else len(str(value))


@dataclass
class FieldReader:
    """Reads fields of one body and notes where it breaks the document.

    Attributes:
        violations: `<rule>:<field>`, in the order they were found; rules are missing, type, too_long, too_many, unknown and
            invalid; the intake adds unreadable.
    """

    body: JsonObject
    violations: list[str] = field(default_factory=list)

    def note(self, rule: str, name: str) -> None:
        """Notes a violation once."""
        violation = f"{rule}:{name}"
        if violation not in self.violations:
            self.violations.append(violation)

    def check(self, document: Mapping[str, Documented]) -> None:
        """Notes required fields that are missing and values longer than documented; null counts as missing."""
        get = self.body.get
        for name, (required, max_length) in document.items():
            value = get(name)
            if value is None:
                if required:
                    self.note("missing", name)
            elif max_length is not None and _length(value) > max_length:
                self.note("too_long", name)

    def text(self, name: str) -> str | None:
        """A text field; numbers are taken as their text, empty text as absent, anything else is noted and left out.

        A text of more than `MAX_TEXT_LENGTH` characters is noted, and cut.
        """
        return self._cut(name, self.whole(name))

    def whole(self, name: str) -> str | None:
        """As `text`, however long it is: for what does not become part of an event as it is."""
        value = self.body.get(name)
        if isinstance(value, str) and value and not value.isspace():
            return value
        if value is None or value == "":
            return None
        self.note("type", name)
        return id_text(value)

    def label(self, name: str) -> str | None:
        """As `text`, with at most `MAX_CODE_BYTES` bytes: for what becomes part of a case."""
        return self._label(name, self.whole(name))

    def present(self, names: Iterable[str]) -> dict[str, str | None]:
        """`text` of each that is there, in the order of the names; most are not, and cost nothing."""
        body = self.body
        return {name: self.text(name) for name in names if name in body}

    def code(self, name: str) -> str | None:
        """A coded field that may be a number or text, as `code_text`: both are right. At most `MAX_CODE_BYTES` bytes."""
        return self._label(name, self._number_or_text(name, code_text))

    def long_code(self, name: str) -> str | None:
        """As `code`, with as many characters as a text."""
        return self._cut(name, self._number_or_text(name, code_text))

    def long_id(self, name: str) -> str | None:
        """An id that may be an integer or text, with as many characters as a text."""
        return self._cut(name, self.whole_id(name))

    def whole_id(self, name: str) -> str | None:
        """As `long_id`, however long it is."""
        return self._number_or_text(name, id_text)

    def _number_or_text(self, name: str, read: Callable[[Json], str | None]) -> str | None:
        value = self.body.get(name)
        if value is None or value == "":
            return None
        text = read(value)
        if text is None:
            self.note("type", name)
        return text

    def _cut(self, name: str, text: str | None) -> str | None:
        if text is None or len(text) <= MAX_TEXT_LENGTH:
            return text
        self.note("too_long", name)
        return cut_text(text, MAX_TEXT_LENGTH)

    def _label(self, name: str, text: str | None) -> str | None:
        cut = text if text is None else cut_code(text, MAX_CODE_BYTES)
        if cut is not text:
            self.note("too_long", name)
        return cut

    def flag(self, name: str) -> bool | None:
        """A true/false field."""
        value = self.body.get(name)
        if value is None or isinstance(value, bool):
            return value
        self.note("type", name)
        return None

    def names(self, name: str, documented: Collection[str]) -> tuple[str, ...]:
        """A list of names without repeats, in the order given; a single text is taken as a list of one, and noted.

        Documented names are all kept, and the first `MAX_UNDOCUMENTED_NAMES` others, of at most `MAX_NAME_BYTES` bytes each.
        """
        value = self.body.get(name)
        if value is None:
            return ()
        items: list[Json] = value if isinstance(value, list) else [value]
        texts = [item for item in items if isinstance(item, str) and item]
        if not isinstance(value, list) or len(texts) != len(items):
            self.note("type", name)
        found = dict.fromkeys(texts)
        others = list(islice((text for text in found if text not in documented), MAX_UNDOCUMENTED_NAMES + 1))
        if not others:
            return tuple(found)
        self.note("unknown", name)
        if len(others) > MAX_UNDOCUMENTED_NAMES:
            self.note("too_many", name)
            kept = {*others[:MAX_UNDOCUMENTED_NAMES], *documented}
            found = {text: None for text in found if text in kept}
        return tuple(dict.fromkeys(text if text in documented else self._name(name, text) for text in found))

    def _name(self, name: str, text: str) -> str:
        cut = cut_code(text, MAX_NAME_BYTES)
        if cut is not text:
            self.note("too_long", name)
        if is_reserved(cut):
            self.note("invalid", name)
            return f"({cut})"
        return cut

    def null_fields(self, document: Mapping[str, Documented]) -> tuple[str, ...]:
        """Documented fields that are there and null, sorted."""
        body = self.body
        return tuple(sorted(name for name in document if name in body and body[name] is None))

    def unknown_fields(self, document: Mapping[str, Documented]) -> tuple[str, ...]:
        """Names the document does not know, sorted; the first 50 that the body has, of at most 100 characters each."""
        if self.body.keys() <= document.keys():
            return ()  # nearly always, and without making a set
        names = list(islice((name for name in self.body if name not in document), MAX_NAMED_UNKNOWN + 1))
        if len(names) > MAX_NAMED_UNKNOWN:
            self.note("too_many", "unknown_fields")
        return tuple(sorted(name[:MAX_FIELD_NAME_LENGTH] for name in names[:MAX_NAMED_UNKNOWN]))


def is_reserved(name: str) -> bool:
    """Whether a name is that of totals, or what such a name becomes when it is escaped."""
    return name.startswith("(") and name.endswith(")") and name.strip("()") == TOTALS.strip("()")
