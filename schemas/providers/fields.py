"""Reading documented fields of a body: values for the event, and violations of the document, which never reject."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.providers.body import Json, JsonObject, id_text

MAX_NAMED_UNKNOWN = 50
MAX_FIELD_NAME_LENGTH = 100


class Documented(NamedTuple):
    """What a document says of one field.

    Attributes:
        required: Whether a body without it breaks the document.
        max_length: Characters; None where the document gives no length.
    """

    required: bool = False
    max_length: int | None = None


@dataclass
class FieldReader:
    """Reads fields of one body and notes where it breaks the document.

    Attributes:
        violations: `<rule>:<field>`, in the order they were found; rules are missing, type, too_long, unknown, invalid.
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
            elif max_length is not None and len(str(value)) > max_length:
                self.note("too_long", name)

    def text(self, name: str) -> str | None:
        """A text field; numbers are taken as their text, empty text as absent, anything else is noted and left out."""
        value = self.body.get(name)
        if isinstance(value, str) and value and not value.isspace():
            return value
        if value is None or value == "":
            return None
        self.note("type", name)
        return id_text(value)

    def present(self, names: Iterable[str]) -> dict[str, str | None]:
        """`text` of each that is there, in the order of the names; most are not, and cost nothing."""
        body = self.body
        return {name: self.text(name) for name in names if name in body}

    def code(self, name: str) -> str | None:
        """A coded field that may be a number or text: both are right."""
        value = self.body.get(name)
        if value is None or value == "":
            return None
        text = id_text(value)
        if text is None:
            self.note("type", name)
        return text

    def flag(self, name: str) -> bool | None:
        """A true/false field."""
        value = self.body.get(name)
        if value is None or isinstance(value, bool):
            return value
        self.note("type", name)
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts without repeats, in the order given; a single text is taken as a list of one, and noted."""
        value = self.body.get(name)
        if value is None:
            return ()
        items: list[Json] = value if isinstance(value, list) else [value]
        texts = [item for item in items if isinstance(item, str) and item]
        if not isinstance(value, list) or len(texts) != len(items):
            self.note("type", name)
        return tuple(dict.fromkeys(texts))

    def null_fields(self, document: Mapping[str, Documented]) -> tuple[str, ...]:
        """Documented fields that are there and null, sorted."""
        if None not in self.body.values():
            return ()
        return tuple(sorted(name for name, value in self.body.items() if value is None and name in document))

    def unknown_fields(self, document: Mapping[str, Documented]) -> tuple[str, ...]:
        """Names the document does not know, sorted; at most 50 names of at most 100 characters each."""
        if self.body.keys() <= document.keys():
            return ()  # nearly always, and without making a set
        names = sorted(name[:MAX_FIELD_NAME_LENGTH] for name in self.body.keys() - document.keys())
        return tuple(names[:MAX_NAMED_UNKNOWN])
