"""Where statements end and data begin."""

from __future__ import annotations

import pytest

from deploy.embedded.clickhouse.statement import InsertHead, Plain, first_word, output_format, split_insert, split_types


@pytest.mark.parametrize(
    ("text", "statement", "data_format", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2", b"INSERT INTO t", "CSV", b"1,2"),
        (b"INSERT INTO t FORMAT Native\r\n\x01\x02", b"INSERT INTO t", "Native", b"\x01\x02"),
        (b"insert into t (a, format) format RowBinary \n\n", b"insert into t (a, format)", "RowBinary", b"\n"),
        (b"INSERT INTO t FORMAT TSV;\n1", b"INSERT INTO t", "TSV", b"1"),
        (b"INSERT INTO t VALUES (1, 'FORMAT CSV')", b"INSERT INTO t", "Values", b" (1, 'FORMAT CSV')"),
        (b"INSERT INTO `VALUES` FORMAT CSV\n1", b"INSERT INTO `VALUES`", "CSV", b"1"),
        (b"INSERT INTO db.values FORMAT CSV\n1", b"INSERT INTO db.values", "CSV", b"1"),
        (b"INSERT INTO FUNCTION null('a Int8') FORMAT CSV\n1", b"INSERT INTO FUNCTION null('a Int8')", "CSV", b"1"),
        (b"/* SELECT */ INSERT INTO t -- VALUES\n SETTINGS a = 'FORMAT' FORMAT CSV 1", None, "CSV", b"1"),
        ("\u00a0\ufeffINSERT\u2003INTO t // VALUES\n FORMAT\u3000CSV\n1".encode(), None, "CSV", b"1"),
        (b"INSERT INTO t;", b"INSERT INTO t", None, b""),
    ],
)
def test_an_insert_is_cut_into_statement_format_and_data(
    text: bytes, statement: bytes | None, data_format: str | None, data: bytes
) -> None:
    """FORMAT or VALUES at the top level ends the statement, not the same word in a name, a string or a comment."""
    found = split_insert(text, final=True)
    assert isinstance(found, InsertHead)
    assert statement is None or found.statement == statement
    assert found.data_format == data_format
    assert text[found.data_start :] == data


def test_every_cut_of_a_text_gives_the_same_answer() -> None:
    """A body that arrives byte by byte is undecided until enough is there, and never decided differently."""
    text = b"\xe2\x80\x83\xc2\xa0INSERT INTO t (a) /* x */\xef\xbb\xbfSETTINGS s='a\\'b' FORMAT JSONEachRow\r\n{}"
    whole = split_insert(text, final=True)
    answers = [split_insert(text[:end], final=False) for end in range(len(text) + 1)]
    assert whole is not None
    assert {answer for answer in answers if answer is not None} == {whole}


@pytest.mark.parametrize(
    ("text", "reads_input"),
    [
        (b"INSERT INTO t SELECT 1 FORMAT CSV", False),
        (b"INSERT INTO t (SELECT 1)", False),
        (b"INSERT INTO t WITH 1 AS x SELECT x", False),
        (b"INSERT INTO t SELECT a FROM input('a Int8') FORMAT CSV\n1", True),
        (b"INSERT INTO t FROM INFILE 'x' FORMAT CSV", False),
        (b"SELECT 1", False),
        (b"", False),
    ],
)
def test_statements_without_data_of_their_own(text: bytes, reads_input: bool) -> None:  # noqa: FBT001
    """INSERT … SELECT has no data, and the one that would need some is recognised."""
    assert split_insert(text, final=True) == Plain(reads_input=reads_input)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1 format JSONCompact ; -- done", "JSONCompact"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT format FROM t", None),
        (b"SELECT 'x FORMAT JSON'", None),
        (b"SELECT (SELECT 1 FORMAT JSON)", None),
        (b"SELECT 1", None),
    ],
)
def test_the_format_an_answer_is_asked_in(text: bytes, expected: str | None) -> None:
    """Only a FORMAT clause counts, not a column or a string that reads like one."""
    assert output_format(text) == expected


def test_the_first_word_ignores_comments_and_brackets() -> None:
    """The keyword decides how a statement is run."""
    assert first_word(b"-- hi\n /* x */ ( select 1)") == "SELECT"
    assert first_word(b"'x'") == ""


@pytest.mark.parametrize(
    ("types", "parts"),
    [
        ("UInt8", ["UInt8"]),
        ("UInt8,String", ["UInt8", "String"]),
        ("Tuple(a Nullable(String), b UInt8), Decimal(10, 2)", ["Tuple(a Nullable(String), b UInt8)", " Decimal(10, 2)"]),
        (r"Enum8('a,(' = 1, 'it\'s,' = 2),String", [r"Enum8('a,(' = 1, 'it\'s,' = 2)", "String"]),
        ("", [""]),
    ],
)
def test_a_list_of_types_is_cut_at_its_own_commas(types: str, parts: list[str]) -> None:
    """Not at those within brackets and strings."""
    assert split_types(types) == parts
