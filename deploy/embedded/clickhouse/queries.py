"""What runs on the engine's threads: one statement on one session. No HTTP here; every function blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from deploy.embedded.clickhouse.blocks import in_blocks
from deploy.embedded.clickhouse.confinement import refuse
from deploy.embedded.clickhouse.engine import Engine, Insert, Outcome
from deploy.embedded.clickhouse.exceptions import RequestRefusedError
from deploy.embedded.clickhouse.question import Question
from deploy.embedded.clickhouse.sessions import Session, identifier, quoted
from deploy.embedded.clickhouse.statement import first_word, output_format, split_types
from deploy.embedded.clickhouse.upload import Insertion, Statement

DEFAULT_ANSWER_FORMAT: Final = "TabSeparated"
# Blocks of these, one after the other, are one valid answer; every other format has a head or a foot and comes as a whole.
_BLOCKWISE_FORMATS: Final = frozenset({"native", "tabseparated", "tsv", "csv", "rowbinary", "jsoneachrow"})
_KEEP_READ_ONLY: Final = frozenset({"SET", "USE"})  # change the session, not the data
# One block for the whole insert: nothing is written before its last byte has been parsed, so that it is all or nothing.
_ONE_BLOCK: Final = {
    "input_format_parallel_parsing": "0",
    "max_insert_block_size": str(10**12),
    "max_insert_threads": "1",
    "min_insert_block_size_bytes": "0",
    "min_insert_block_size_rows": str(10**12),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in `answer_format`: whole in `blocks` as one Outcome, or several, each with its bytes."""

    answer_format: str
    blocks: Iterator[Outcome]


def begin_insert(session: Session, question: Question, insertion: Insertion) -> Insert:
    """Prepare the session and begin the INSERT; the data follow.

    Raises:
        ClickHouseError: The engine refuses it.
        RequestRefusedError: The request is read-only.
    """
    if question.read_only:
        raise _read_only_refusal()
    refuse(insertion.statement, session.connection.formatted)
    session.prepare(question.database, {**_ONE_BLOCK, **question.settings})
    session.set_parameters(question.parameters)
    return session.connection.insert(insertion.statement, insertion.data_format)


def ask(engine: Engine, session: Session, question: Question, statement: Statement, files: Mapping[str, bytes]) -> Answer:
    """Run a statement; the first block is not computed before the answer's `blocks` are iterated, if it comes blockwise.

    Raises:
        ClickHouseError: The engine refuses it.
        RequestRefusedError: It is not allowed over HTTP, or not in this request.
    """
    refuse(statement.sql, engine.formatted)
    keyword = first_word(statement.sql)
    session.prepare(question.database, {} if keyword == "SET" else question.settings)
    connection = session.connection
    found = connection.classify(statement.sql)
    if found.statements > 1:
        raise RequestRefusedError(62, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed).")
    if found.statements == 0:
        connection.formatted(statement.sql)  # says what is wrong; when run, the statements before the error would take effect
    if statement.reads_input:
        sentence = "INSERT … SELECT … FROM input() is not supported by the embedded server: insert the data, then select."
        raise RequestRefusedError(48, "NOT_IMPLEMENTED", sentence)
    if question.read_only and not found.reads_only and keyword not in _KEEP_READ_ONLY:
        raise _read_only_refusal()
    for name, data in files.items():
        _load_external_table(session, name, data, question.other)
    answer_format = output_format(statement.sql) or question.default_format or DEFAULT_ANSWER_FORMAT
    whole = question.whole_answer or question.block_compression or files
    blockwise = answer_format.lower() in _BLOCKWISE_FORMATS and not whole
    if blockwise and found.reads_only and keyword in ("SELECT", "WITH"):
        return Answer(answer_format, connection.stream(statement.sql, answer_format, question.parameters))
    outcome = connection.run(statement.sql, answer_format, question.parameters)
    session.note_statement(keyword)
    for name in files:
        connection.run(_bytes(f"DROP TEMPORARY TABLE {identifier(name)}"), "Null")
    if question.block_compression:
        outcome = replace(outcome, data=in_blocks(engine, outcome.data))
    return Answer(answer_format, iter((outcome,)))


def _load_external_table(session: Session, name: str, data: bytes, described: Mapping[str, str]) -> None:
    """Make a file of the form a temporary table: columns as in `<name>_structure`, or `_1, _2, …` of `<name>_types`.

    The structure goes to the engine as a string, which it reads as a list of columns: within a statement it could be more.
    """
    structure = described.get(f"{name}_structure")
    types = described.get(f"{name}_types")
    if structure is None and types is not None:
        structure = ", ".join(f"_{number} {kind}" for number, kind in enumerate(split_types(types), start=1))
    if structure is None:
        sentence = f"Neither structure nor types have been provided for external table {name}."
        raise RequestRefusedError(36, "BAD_ARGUMENTS", sentence)
    table = identifier(name)
    connection = session.connection
    columns = f"SELECT * FROM null({quoted(structure)}) LIMIT 0"  # noqa: S608 - a string literal
    connection.run(_bytes(f"CREATE TEMPORARY TABLE {table} ENGINE = Memory AS {columns}"), "Null")
    insert = connection.insert(_bytes(f"INSERT INTO {table}"), described.get(f"{name}_format", DEFAULT_ANSWER_FORMAT))
    try:
        insert.append(data)
        insert.finish()
    finally:
        insert.cancel()


def _bytes(sql: str) -> bytes:
    return sql.encode("utf-8", "surrogateescape")


def _read_only_refusal() -> RequestRefusedError:
    sentence = "Cannot execute query in readonly mode. Over HTTP, GET and readonly=1 allow only reading: use POST."
    return RequestRefusedError(164, "READONLY", sentence)
