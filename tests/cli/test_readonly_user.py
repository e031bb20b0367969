"""A ClickHouse user with readonly = 1: every command that only reads says what the user needs, and nothing about passwords."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from tests.cli.commands import failed_clearly, lonely_configuration
from tests.cli.one_process import run_each
from tests.sinks.lossy_proxy import LossyProxy


class _ReadonlyProxy(LossyProxy):
    """A server before ClickHouse that takes no settings, as ClickHouse does from a user with readonly = 1."""

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        if "date_time_output_format" not in request.query and "final" not in request.query:
            return await super()._forward(request)
        text = "Code: 164. DB::Exception: Cannot modify 'final' setting in readonly mode. (READONLY) (version 25.8.1.1)"
        return web.Response(status=500, text=text, headers={"X-ClickHouse-Exception-Code": "164"})


async def test_a_readonly_user_is_told_what_it_needs(clickhouse_server: str, tmp_path: Path) -> None:
    """The command sql in each format, report and export."""
    commands = [
        ["sql", "SELECT 1"],
        ["sql", "--format", "csv", "SELECT 1"],
        ["report"],
        ["export", "xes", "-"],
    ]
    async with _ReadonlyProxy(clickhouse_server, losses=0).listening() as proxy:
        env = {
            "KYB_STREAM_CONFIG": str(lonely_configuration(tmp_path)),
            "KYB_STREAM_CLICKHOUSE__URL": proxy.url,
            "KYB_STREAM_CLICKHOUSE__USERNAME": "analyst",
        }
        told = await asyncio.to_thread(run_each, commands, env=env, cwd=tmp_path)
    for command, done in zip(commands, told, strict=True):
        assert failed_clearly(done, 1, "refuses user 'analyst': the user may only read", "READONLY, code 164"), command
        assert "readonly = 2" in done.err, command
        assert "password" not in done.err, command
