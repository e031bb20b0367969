"""Whether a code of the KYC provider could name the person: compared in normal form, and in doubt it does.

The normal form has no case, no accents and no separators; `ü` is `u` and so is `ue`. What is looked for in a code:

1. Four characters in a row of any personal value, of the names put together, or of a date in any usual order.
2. A word of three characters of a personal value, anywhere in it.
3. As a word of its own: any three characters in a row, a shorter word, a day, month or year of two digits.
4. Letters at all, where a personal value has letters that have no such form (`李`, `Иван`): they could be its transcription.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Container, Iterable, Iterator
from itertools import permutations, product

import msgspec

from schemas.providers.body import Json, JsonObject

NAMES = ("firstName", "lastName")
DATES = ("dob", "validUntil")
PERSONAL = (
    *NAMES,
    *DATES,
    "email",
    "number",
    "additionalNumber",
    "gender",
    "street",
    "city",
    "state",
    "zipCode",
    "address",
    "userNo",
    "userNum",
    "remark",
)
"""Fields whose values identify a person, or may."""

MAX_PERSONAL_LENGTH = 1_024
"""Characters of a personal field; of a longer one nothing is compared, and every code could name the person. The longest
documented field has 512."""

_RUN, _PART, _WORD = 4, 3, 2
_FEW = 1_024
_DIGIT = frozenset("0123456789")
_MAX_NUMBERS = 3
_LETTERS = str.maketrans(
    {"ø": "oe", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ŧ": "t", "ŋ": "n", "\u0131": "i"}
)
_TRANSCRIBED = (("aa", "a"), ("ae", "a"), ("oe", "o"), ("ue", "u"), ("ss", "s"))
_WORDS = re.compile(r"[a-z0-9]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SEPARATOR = re.compile(r"[^A-Za-z0-9]+")
_NUMBERS = re.compile(r"[0-9]+")
_MONTH = re.compile(r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_NUMBER = re.compile(r"[0-9]{7}")
_DAY_MONTH_YEAR, _SHORT_DATE, _LONG_DATE = 3, 6, 8
_YEAR = 4


class PersonalValues:
    """What the personal fields of one body say, as it is looked for in codes. Linear in their length, which is bounded."""

    def __init__(self, body: JsonObject) -> None:
        self._unknown = False  # a value that cannot be compared as a whole
        self._letters = False  # letters that cannot be compared
        self._words: set[str] = set()
        self._dates: list[str] = []
        self._turned: Container[str] | None = None
        forms: set[str] = set()
        for name in PERSONAL:
            if body.get(name) is not None:
                forms.update(self._add(name, body[name]))
        if not self._unknown:
            first, last = (_joined(_folded(str(body.get(name) or ""))) for name in NAMES)
            forms.update(_spellings((first + last, last + first)))
        self._in_a_row = _rows(forms)
        self._short = frozenset(word for word in self._words if len(word) == _PART)

    def _add(self, name: str, value: Json) -> Iterable[str]:
        if isinstance(value, list | dict) and len(msgspec.json.encode(value)) > MAX_PERSONAL_LENGTH:
            self._unknown = True
            return ()
        text = value if isinstance(value, str) else str(value)
        if len(text) > MAX_PERSONAL_LENGTH:
            self._unknown = True
            return ()
        folded = _folded(text)
        self._letters = self._letters or any(each.isalpha() and not each.isascii() for each in folded)
        whole = _joined(folded)
        self._words.update(_spellings(word for word in _WORDS.findall(folded) if len(word) >= _WORD))
        if name != "gender" or len(whole) >= _WORD:  # else every code 1 or 2 would be one
            self._words.update(_spellings([whole]))
        if name in DATES:
            self._dates.append(folded)
        return _spellings([whole])

    def may_be_in(self, code: str) -> bool:
        """Whether a code of ASCII letters, digits and separators could tell something of the person."""
        joined = _SEPARATOR.sub("", code)
        if self._unknown or _LONG_NUMBER.search(joined) or (self._letters and not joined.isdigit()):
            return True
        forms = _spellings([joined.lower()])
        spelled = _spellings(word.lower() for word in (*_SEPARATOR.split(code), *_CAMEL.findall(code)))
        words = spelled | forms
        rows = {form[at : at + _RUN] for form in forms for at in range(len(form) - _RUN + 1)}
        rows.update(word for word in words if len(word) == _PART)
        return (
            not self._words.isdisjoint(words)
            or any(row in self._in_a_row for row in rows)
            or any(form[at : at + _PART] in self._short for form in forms for at in range(len(form) - _PART + 1))
            or (not _DIGIT.isdisjoint(joined) and self._has_date(words, rows))
        )

    def _has_date(self, words: set[str], rows: set[str]) -> bool:
        if self._turned is None:
            turned: set[str] = set()
            for folded in self._dates:
                for date in _dates(folded):
                    self._words.update(part for part in date if len(part) >= _WORD)
                    turned.update("".join(order) for order in permutations(date))
            self._turned = _rows(turned)
        return not self._words.isdisjoint(words) or any(row in self._turned for row in rows)


def _rows(forms: Collection[str]) -> Container[str]:
    """What holds all that is three or four characters in a row: few texts themselves, else a set, which costs more to make."""
    text = "\n".join(forms)
    if len(text) <= _FEW:
        return text
    return frozenset(form[at : at + size] for form in forms for size in (_PART, _RUN) for at in range(len(form) - size + 1))


def _folded(text: str) -> str:
    """The text without case and accents; what has no form in ASCII stays."""
    text = text.casefold()
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", text.translate(_LETTERS)).casefold()
    return "".join(
        str(unicodedata.decimal(each)) if each.isdecimal() else each for each in parts if not unicodedata.combining(each)
    )


def _joined(folded: str) -> str:
    return _SEPARATOR.sub("", folded)


def _spellings(texts: Iterable[str]) -> set[str]:
    """The texts, and each with the letters that stand for an umlaut, å or ß made one."""
    found: set[str] = set()
    for text in texts:
        found.add(text)
        shorter = text
        for written, letter in _TRANSCRIBED:
            shorter = shorter.replace(written, letter)
        found.add(shorter)
    found.discard("")
    return found


def _dates(folded: str) -> Iterator[tuple[str, ...]]:
    """Day, month and year of a date in some order, in each way to write them: 02 or 2, 1990 or 90."""
    numbers = _NUMBERS.findall(folded)
    month = _MONTH.search(folded)
    if month is not None:
        numbers.insert(0, f"{_MONTHS.index(month[0]) + 1:02}")
    found = [tuple(numbers[:_DAY_MONTH_YEAR])] if len(numbers) >= _DAY_MONTH_YEAR else []
    for number in numbers[:_MAX_NUMBERS]:
        if len(number) >= _LONG_DATE:
            found += [(number[:4], number[4:6], number[6:8]), (number[:2], number[2:4], number[4:8])]
        elif len(number) == _SHORT_DATE:
            found.append((number[:2], number[2:4], number[4:]))
    for date in found:
        if max(map(len, date)) <= _YEAR:
            yield from product(*(_written(part) for part in date))


def _written(part: str) -> set[str]:
    short = part[-2:] if len(part) == _YEAR else part
    return {part, short, short.zfill(2), short.lstrip("0") or "0"}
