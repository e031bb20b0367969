"""Reads as much of a SQL text as HTTP needs: where an INSERT's data begin, and which format the answer has. Pure.

ClickHouse's HTTP interface takes the statement and the data of an INSERT in one body, in any binary format, so the end of
the statement must be found without a parser for the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    rb"""
      (?P<blank>(?:\s | \xc2[\x85\xa0] | \xe1\xa0\x8e | \xe2\x80[\x80-\x8d\xa8\xa9\xaf] | \xe2\x81[\x9f\xa0]
            | \xe3\x80\x80 | \xef\xbb\xbf)+ | (?:--|//)[^\n]*(?:\n|\Z) | \#[ !][^\n]*(?:\n|\Z) | /\*.*?\*/)
    | (?P<quoted>'[^'\\]*(?:(?:\\.|'')[^'\\]*)*' | "[^"\\]*(?:(?:\\.|"")[^"\\]*)*" | `[^`\\]*(?:(?:\\.|``)[^`\\]*)*`
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<word>[A-Za-z_0-9][A-Za-z_0-9]*)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<unfinished>['"`] | /\*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_TYPE_PART: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|[(),]|[^'(),]+|'""", re.DOTALL)
_UNCERTAIN_BYTES: Final = {"word": 1, "other": 2}  # at the end of a text: a word may go on, a character of three bytes, too
# What stands between `FORMAT x` and the data: blanks, one semicolon, one line break.
_GAP: Final = re.compile(rb"[ \t\f]*;?[ \t\f]*\r?\n?")
_QUERY_WORDS: Final = frozenset({b"SELECT", b"WITH"})
_LANDMARKS: Final = _QUERY_WORDS | {b"INFILE", b"VALUES", b"FORMAT"}
_NAME_FOLLOWS: Final = frozenset({b"INTO", b"TABLE", b"FUNCTION", b"."})


@dataclass(frozen=True, slots=True)
class InsertHead:
    """An INSERT whose data travel beside it.

    Attributes:
        statement: The INSERT without FORMAT, VALUES and data.
        data_format: The format it names; None when it names none (the request's default format then counts).
        data_start: Offset in the text at which the data begin.
    """

    statement: bytes
    data_format: str | None
    data_start: int


@dataclass(frozen=True, slots=True)
class Plain:
    """Any statement without data of its own, INSERT … SELECT included."""

    reads_input: bool = False  # INSERT … SELECT … FROM input(…): its data would have to be streamed


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: bytes
    start: int
    end: int
    depth: int


def _tokens(sql: bytes) -> Iterator[_Token]:
    """The tokens of a text, blanks and comments left out, each with the depth of brackets it stands at."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "other"
        if kind == "tag":
            kind = "quoted"
        if kind == "blank":
            continue
        if kind == "close":
            depth = max(0, depth - 1)
        text = match.group()
        yield _Token(kind, text.upper() if kind == "word" else text, match.start(), match.end(), depth)
        if kind == "open":
            depth += 1


def first_word(sql: bytes) -> str:
    """The first keyword in upper case, empty when there is none."""
    for token in _tokens(sql):
        if token.kind == "word":
            return token.text.decode()
        if token.kind != "open":
            break
    return ""


def split_insert(sql: bytes, *, final: bool) -> InsertHead | Plain | None:
    """Where a text's statement ends and its data begin.

    Args:
        sql: The beginning of the text.
        final: Whether the text is complete.

    Returns:
        None when more of the text is needed to tell.
    """
    tokens = _certain_tokens(sql, final=final)
    first = next(tokens, None)
    undecided = None if not final else Plain()
    if first is None:
        return undecided
    if first.text != b"INSERT":
        return Plain()
    mark = _landmark(tokens)
    if mark is None:
        return InsertHead(sql.rstrip().rstrip(b";"), None, len(sql)) if final else None
    if mark.text == b"VALUES":
        return InsertHead(sql[: mark.start].rstrip(), "Values", mark.end)
    if mark.text == b"FORMAT":
        return _before_data(sql, mark, next(tokens, None), final=final) or undecided
    return Plain(reads_input=_reads_input(sql)) if final else None


def _certain_tokens(sql: bytes, *, final: bool) -> Iterator[_Token]:
    """The tokens up to the first that more text could change."""
    for token in _tokens(sql):
        if not final and (token.kind == "unfinished" or token.end > len(sql) - _UNCERTAIN_BYTES.get(token.kind, 0)):
            return
        yield token


def _landmark(tokens: Iterator[_Token]) -> _Token | None:
    """The word after which an INSERT's data, query or file comes."""
    previous = b""
    for token in tokens:
        at_top = token.depth == 0 or (previous == b"(" and token.text in _QUERY_WORDS)
        if token.kind == "word" and token.text in _LANDMARKS and at_top and previous not in _NAME_FOLLOWS:
            return token
        previous = token.text
    return None


def _before_data(sql: bytes, mark: _Token, name: _Token | None, *, final: bool) -> InsertHead | None:
    if name is None:
        return None
    start = _after_gap(sql, name.end)
    if start == len(sql) and not final:
        return None  # a line break may follow, which is not data
    return InsertHead(sql[: mark.start].rstrip(), sql[name.start : name.end].decode("utf-8", "replace"), start)


def _after_gap(sql: bytes, end: int) -> int:
    gap = _GAP.match(sql, end)
    return gap.end() if gap else end


def _reads_input(sql: bytes) -> bool:
    previous = b""
    for token in _tokens(sql):
        if token.kind == "open" and previous == b"INPUT":
            return True
        previous = token.text
    return False


def output_format(sql: bytes) -> str | None:
    """The format a statement's own `FORMAT x` asks its answer in; None without one.

    A column called `format` is not mistaken for it: the clause stands last, or before SETTINGS.
    """
    window: list[_Token] = []
    for token in _tokens(sql):
        window.append(token)
        del window[:-3]
        if len(window) == 3 and _is_format_clause(window[0], window[1]) and token.text in (b";", b"SETTINGS"):  # noqa: PLR2004
            return sql[window[1].start : window[1].end].decode()
    if len(window) >= 2 and _is_format_clause(window[-2], window[-1]):  # noqa: PLR2004
        return sql[window[-1].start : window[-1].end].decode()
    return None


def _is_format_clause(keyword: _Token, name: _Token) -> bool:
    return keyword.kind == name.kind == "word" and keyword.depth == 0 and keyword.text == b"FORMAT"


def split_types(types: str) -> list[str]:
    """A list of types at its commas, not at those within brackets and strings, as of `Tuple(String, Enum8('a,b' = 1))`."""
    parts, depth = [""], 0
    for match in _TYPE_PART.finditer(types):
        part = match.group()
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += part
    return parts
