"""Answers: headers, content types, compression, and how a failure is told before and after the first byte."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from deploy.embedded.clickhouse.compression import Compressor
from deploy.embedded.clickhouse.engine import Outcome
from deploy.embedded.clickhouse.exceptions import ClickHouseError

_SERVER_NAME: Final = "kyb-stream-embedded"
_TEXT: Final = "text/plain; charset=UTF-8"
_BINARY: Final = "application/octet-stream"
# By the beginning of the format's name, in lower case; the longer beginnings first.
_CONTENT_TYPES: Final = (
    ("jsoneachrow", "application/x-ndjson; charset=UTF-8"),
    ("jsonstringseachrow", "application/x-ndjson; charset=UTF-8"),
    ("jsoncompacteachrow", "application/x-ndjson; charset=UTF-8"),
    ("json", "application/json; charset=UTF-8"),
    ("csv", "text/csv; charset=UTF-8; header=absent"),
    ("tabseparated", "text/tab-separated-values; charset=UTF-8"),
    ("tsv", "text/tab-separated-values; charset=UTF-8"),
    ("xml", "application/xml; charset=UTF-8"),
    ("rowbinary", _BINARY),
    ("native", _BINARY),
    ("avro", _BINARY),
    ("arrow", _BINARY),
    ("parquet", _BINARY),
    ("orc", _BINARY),
    ("msgpack", _BINARY),
    ("protobuf", _BINARY),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What every answer to one request carries.

    Attributes:
        query_id: The client's, or one made for it.
        timezone: Of the session: how DateTime values without a zone are meant.
        coding: The HTTP coding of a successful answer, or None.
        exception_tag: Marks an error that is told inside an answer already begun.
    """

    query_id: str
    timezone: str
    coding: str | None
    exception_tag: str

    def headers(self, answer_format: str, outcome: Outcome) -> dict[str, str]:
        """The headers of an answer in `answer_format`."""
        lowered = answer_format.lower()
        content_type = next((kind for start, kind in _CONTENT_TYPES if lowered.startswith(start)), _TEXT)
        if content_type.startswith("text/") and "withnames" in lowered:
            content_type = content_type.replace("header=absent", "header=present")
        headers = {"Content-Type": content_type, "X-ClickHouse-Format": answer_format, **self._common(outcome)}
        if self.coding is not None:
            headers["Content-Encoding"] = self.coding
        return headers

    def failure(self, error: ClickHouseError) -> web.Response:
        """The answer to a request that failed before anything was sent."""
        headers = {"Content-Type": _TEXT, "X-ClickHouse-Exception-Code": str(error.code), **self._common(Outcome())}
        body = f"{error.text}\n".encode("utf-8", "replace")
        return web.Response(status=error.http_status, body=body, headers=headers)

    def late_failure(self, error: ClickHouseError) -> bytes:
        """The error as ClickHouse 25.11 and later write it into an answer already begun."""
        text = f"{error.text}\n".encode("utf-8", "replace")
        tag = self.exception_tag.encode()
        return b"\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (tag, text, len(text), tag)

    def _common(self, outcome: Outcome) -> dict[str, str]:
        return {
            "X-ClickHouse-Query-Id": self.query_id,
            "X-ClickHouse-Timezone": self.timezone,
            "X-ClickHouse-Server-Display-Name": _SERVER_NAME,
            "X-ClickHouse-Exception-Tag": self.exception_tag,
            "X-ClickHouse-Summary": summary(outcome),
            "Vary": "Accept-Encoding",
        }


def new_exception_tag() -> str:
    """A tag that no answer's data contain by chance."""
    return secrets.token_hex(8)


def summary(outcome: Outcome) -> str:
    """X-ClickHouse-Summary: counts as strings, time in nanoseconds."""
    counts = {
        "read_rows": outcome.read_rows,
        "read_bytes": outcome.read_bytes,
        "written_rows": outcome.written_rows,
        "written_bytes": outcome.written_bytes,
        "total_rows_to_read": outcome.read_rows,
        "result_rows": outcome.result_rows,
        "result_bytes": len(outcome.data),
        "elapsed_ns": round(outcome.elapsed_seconds * 1e9),
    }
    return json.dumps({name: str(count) for name, count in counts.items()}, separators=(",", ":"))


def compressed(data: bytes, compressor: Compressor) -> bytes:
    """All of `data` as one compressed stream."""
    return compressor.compress(data) + compressor.flush()
