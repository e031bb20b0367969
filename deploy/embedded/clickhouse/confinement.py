"""What no query may do, whoever sends it: read or write files, reach other servers, run programs.

chDB starts as clickhouse-local does, where all of this is allowed. Measured with chdb-core 26.9:

- A configuration file of our own gives its one user a list of grants. Table functions, engines and database engines that
  read files or call out then answer 497 (ACCESS_DENIED), also within views, EXPLAIN, DESCRIBE and INSERT INTO FUNCTION.
  Dictionaries ask for no grant of their source, so CREATE DICTIONARY is not granted. Without a file of ours, chDB takes a
  `config.xml` of the current folder.
- Settings that name a file, a URL or a disk are read-only: FORMAT Template prints any file otherwise. So is `dialect`: in
  another one, as SQL written in JSON, no word need stand in the text as `refuse` looks for it.
- The function `file` asks for no grant. A Python function of that name takes its place.
- The database `default` looks for tables among the files of the current folder. It is attached anew without that.
- The table function `python` finds variables of the calling Python code by name. No code on the way to the engine has any
  of the kinds it reads.
- INFILE, OUTFILE and the prefix `??` (a language model is asked) belong to the client within chDB, which knows no grants.
  Disks of tables and databases, some engines (DataLakeCatalog calls out, EmbeddedRocksDB writes), and ATTACH … FROM ask for
  none. `refuse` finds these in the text. A disk writes, calls out and makes its folder before the statement fails, and one
  that cannot be opened keeps the engine from starting again; so the statement must not reach the engine.

What lies between two words is the engine's to say: it skips Unicode's spaces, comments within comments and `// …`. So
`refuse` looks for whole words wherever they stand, or has the engine's own formatter write the statement anew.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.embedded.clickhouse.exceptions import RequestRefusedError

_GRANTS: Final = (
    "SELECT", "INSERT", "SHOW", "CHECK", "TRUNCATE", "OPTIMIZE", "KILL QUERY", "ALTER TABLE", "ALTER VIEW",
    "CREATE DATABASE", "CREATE TABLE", "CREATE VIEW", "CREATE TEMPORARY TABLE", "CREATE FUNCTION",
    "DROP DATABASE", "DROP TABLE", "DROP VIEW", "DROP FUNCTION", "UNDROP TABLE",
    "SYSTEM MERGES", "SYSTEM TTL MERGES", "SYSTEM VIEWS", "SYSTEM FLUSH LOGS",
)  # fmt: skip
_MERGE_TREES: Final = ("", "Replacing", "Summing", "Aggregating", "Collapsing", "VersionedCollapsing", "Coalescing")
_ENGINES: Final = (
    *(f"{kind}MergeTree" for kind in _MERGE_TREES),
    "Atomic", "Buffer", "GenerateRandom", "Join", "Log", "MaterializedView", "Memory", "Merge", "Null", "Set", "StripeLog",
    "TinyLog", "View",
)  # fmt: skip
_FIXED_SETTINGS: Final = (
    "allow_experimental_eval_table_function",
    "dialect",
    "dynamic_disk_allow_from_env",
    "dynamic_disk_allow_include",
    "format_avro_schema_registry_url",
    "format_schema",
    "format_template_resultset",
    "format_template_row",
    "input_format_record_errors_file_path",
    "merge_tree_disk",
    "merge_tree_table_disk",
    "output_format_schema",
    "rename_files_after_processing",
)
_NOWHERE: Final = "/dev/null/none/"

FILE_FUNCTION: Final = "file"
"""A function of ours takes this name in the engine."""

# Whole words wherever they stand, strings and comments included: a lexer of ours could be misled, a missing word cannot.
_CLIENT_WORDS: Final = re.compile(rb"\b(?:IN|OUT)FILE\b", re.IGNORECASE)
_DDL: Final = re.compile(rb"\b(?:CREATE|REPLACE|ATTACH|ALTER)\b", re.IGNORECASE)
_DISK: Final = re.compile(rb"\bdisk\b", re.IGNORECASE)
_SETTINGS: Final = re.compile(rb"\bSETTINGS?\b", re.IGNORECASE)
_ENGINES_WITHOUT_GRANT: Final = re.compile(
    rb"\b(?:ArrowStream|DataLakeCatalog|EmbeddedRocksDB|Executable(?:Pool)?|FileLog|KeeperMap|QueryRunner)\b", re.IGNORECASE
)
_BACKUP: Final = re.compile(rb"\bBackup\b", re.IGNORECASE)
_DATABASE: Final = re.compile(rb"\bDATABASE\b", re.IGNORECASE)
_ATTACH: Final = re.compile(rb"\bATTACH\b", re.IGNORECASE)
_FROM: Final = re.compile(rb"\bFROM\b", re.IGNORECASE)
_PARALLEL: Final = re.compile(rb"\bPARALLEL\b", re.IGNORECASE)
_FIRST_WORD: Final = re.compile(rb"\s*([A-Za-z]+)\b")  # where the text surely begins with one
_FOR_THE_CLIENT: Final = re.compile(rb"""[^\w'"`]*\?\?""")
# Escapes that could spell one of these words within quotes.
_ESCAPED_NAME: Final = re.compile(rb"""[`"][^`"]*\\[xN]""")
# In what the engine's formatter writes, which has no comments, one kind of string and one kind of quoted name.
_QUOTED: Final = re.compile(rb"""'(?:[^'\\]|\\.)*'|(`(?:[^`\\]|\\.)*`)""", re.DOTALL)
_FORMATTED_DISK: Final = re.compile(rb"\bdisk\b`?\s*[=(]", re.IGNORECASE)


@contextmanager
def configuration() -> Iterator[Path]:
    """The engine's configuration file; it reads it once, when it is opened."""
    with tempfile.TemporaryDirectory(prefix="kyb-stream-clickhouse-") as name:
        folder = Path(name)
        users = folder / "users.xml"
        users.write_text(_users(), encoding="utf-8")
        path = folder / "config.xml"
        path.write_text(
            f"<clickhouse><users_config>{users}</users_config><user_files_path>{_NOWHERE}</user_files_path>"
            f"<user_scripts_path>{_NOWHERE}</user_scripts_path><access_control_improvements>"
            "<table_engines_require_grant>true</table_engines_require_grant></access_control_improvements></clickhouse>",
            encoding="utf-8",
        )
        yield path


def _users() -> str:
    constraints = "".join(f"<{name}><readonly/></{name}>" for name in _FIXED_SETTINGS)
    given = [f"GRANT {', '.join(_GRANTS)} ON *.*", *(f"GRANT TABLE ENGINE ON {engine}" for engine in _ENGINES)]
    grants = "".join(f"<query>{grant}</query>" for grant in given)
    return (
        f"<clickhouse><profiles><default><constraints>{constraints}</constraints></default></profiles>"
        "<users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile>"
        f"<quota>default</quota><grants>{grants}</grants></default></users><quotas><default></default></quotas></clickhouse>"
    )


def file_function(path: str) -> str:
    """Takes the place of the engine's function `file`."""
    raise PermissionError(path)


def refuse(sql: bytes, formatted: Callable[[bytes], bytes]) -> None:
    """Refuse what the engine's grants do not reach.

    Args:
        sql: The statement.
        formatted: Gives a statement as the engine's own formatter writes it; raises when it does not parse. Asked only where
            the words alone do not tell, in a few statements that make tables.

    Raises:
        RequestRefusedError: The statement asks for a file or another server.
    """
    if _FOR_THE_CLIENT.match(sql):
        raise RequestRefusedError(62, "SYNTAX_ERROR", "Syntax error: failed at position 1 (?).")
    if _CLIENT_WORDS.search(sql):
        raise _refused("INFILE and OUTFILE are not served over HTTP, and a statement may not hold these words")
    if not _DDL.search(sql):
        return
    if _ESCAPED_NAME.search(sql):
        raise _refused("names with the escapes \\x and \\N are not served")
    if _ENGINES_WITHOUT_GRANT.search(sql):
        raise _refused("engines of files, programs and other servers are not served")
    if _BACKUP.search(sql) and _DATABASE.search(sql):
        raise _refused("databases of a backup are not served")
    if _DISK.search(sql) and _SETTINGS.search(sql) and _sets_a_disk(formatted(sql)):
        raise _refused("tables and databases lie on the server's one disk")
    if _ATTACH.search(sql) and _FROM.search(sql) and _may_attach(sql):
        raise _refused("ATTACH … FROM is not served")


def _sets_a_disk(formatted: bytes) -> bool:
    """Whether a statement as the formatter writes it gives a table or a database a disk: `disk = …` outside strings."""
    without_strings = _QUOTED.sub(lambda found: found[1] or b"''", formatted)
    return not formatted.strip() or _FORMATTED_DISK.search(without_strings) is not None


def _may_attach(sql: bytes) -> bool:
    """Whether ATTACH may be the statement's verb and not a part of ALTER TABLE or a name within a view."""
    first = _FIRST_WORD.match(sql)
    return first is None or first[1].upper() == b"ATTACH" or _PARALLEL.search(sql) is not None


def _refused(why: str) -> RequestRefusedError:
    return RequestRefusedError(497, "ACCESS_DENIED", f"The embedded server reads no files and calls no other server: {why}.")
