"""ClickHouse's errors: code, wording and the HTTP status each is sent with."""

from __future__ import annotations

import re
from typing import Final

from kybstream.errors import KybStreamError

_CODE: Final = re.compile(r"\bCode: (\d+)\.")
_VERSION: Final = re.compile(r"\(version [^()]*(?:\([^()]*\))?\)\s*$")
_IN_FORMATTER: Final = re.compile(r"(?:\. )?: In scope SELECT formatQuerySingleLine\(.*(?=\. \(\w+\) \(version )", re.DOTALL)

_UNKNOWN_EXCEPTION: Final = 1002
_FILE_FUNCTION: Final = "Python UDF 'file' raised an exception"  # confinement.file_function

# The groups are those of ClickHouse's HTTP server; every other code is 500.
_STATUS_OF_CODES: Final = {
    400: {6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676},
    401: {194},
    403: {192, 193, 497, 512, 516},
    404: {46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511},
    408: {159},
    411: {381},
    413: {229},
    415: {779},
    501: {48},
    503: {76, 209, 439},
}
_STATUS: Final = {code: status for status, codes in _STATUS_OF_CODES.items() for code in codes}


class ClickHouseError(KybStreamError):
    """A refusal in ClickHouse's own words.

    Attributes:
        code: ClickHouse's numeric code, as 62 for SYNTAX_ERROR.
        text: The whole message as a server sends it: `Code: 62. DB::Exception: … (SYNTAX_ERROR) (version …)`.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def http_status(self) -> int:
        """The status ClickHouse's HTTP server maps the code to."""
        return _STATUS.get(self.code, 500)


def worded(code: int, name: str, sentence: str, version: str) -> ClickHouseError:
    """An error with this code and name, worded as the engine words its own."""
    return ClickHouseError(code, f"Code: {code}. DB::Exception: {sentence} ({name}) (version {version})")


class RequestRefusedError(Exception):
    """This server, not the engine, refuses a request; becomes a ClickHouseError once the engine's version is at hand."""

    def __init__(self, code: int, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.name = name
        self.sentence = sentence

    def worded(self, version: str) -> ClickHouseError:
        """The refusal in ClickHouse's wording."""
        return worded(self.code, self.name, self.sentence, version)


def from_engine(message: str, version: str) -> ClickHouseError:
    """The engine's message as an error; a message without a code becomes UNKNOWN_EXCEPTION."""
    if _FILE_FUNCTION in message:
        return worded(497, "ACCESS_DENIED", "The embedded server reads no files: the function file is not served.", version)
    found = _CODE.search(message)
    if found is None:
        return worded(_UNKNOWN_EXCEPTION, "UNKNOWN_EXCEPTION", f"{message.rstrip('. ')}.", version)
    text = message[found.start() :].strip()
    if not _VERSION.search(text):
        text = f"{text} (version {version})"
    return ClickHouseError(int(found[1]), text)


def without_formatter(error: ClickHouseError) -> ClickHouseError:
    """The error of a statement that the engine only formatted, as it would have been said of the statement itself."""
    return ClickHouseError(error.code, _IN_FORMATTER.sub("", error.text))
