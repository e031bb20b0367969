"""The page in a real browser, light and dark: each chart is drawn where it should be, nothing is fetched, nothing complains."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import pytest_asyncio
from PIL import Image

from kybstream.operations.report.asking import make_report
from kybstream.operations.report.page import html_page
from kybstream.settings import ClickHouseSettings
from tests.report.history import land_history

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.stack

CHARTS = ("latency", "survival", "funnel", "services", "ageing", "duplicates")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It starts as root in containers, and asks nobody anything.
_ARGUMENTS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
Scheme = Literal["light", "dark"]


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium without a window."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium: apt-get install chromium")
    from playwright.async_api import async_playwright  # noqa: PLC0415 (slow, and only here)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=_ARGUMENTS, chromium_sandbox=False)
        yield browser
        await browser.close()


@dataclass
class Seen:
    """A page as it is shown."""

    page: Page
    image: Image.Image
    told: list[str]
    requested: list[str]

    async def box(self, selector: str) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of an element."""
        box = await self.page.locator(selector).bounding_box()
        assert box, selector
        return int(box["x"]), int(box["y"]), int(box["x"] + box["width"]), int(box["y"] + box["height"])

    async def colours(self, selector: str) -> dict[tuple[int, ...], int]:
        """Pixels of each colour within an element."""
        part = self.image.crop(await self.box(selector))
        found = part.getcolors(part.width * part.height)
        return {colour: count for count, colour in found or [] if isinstance(colour, tuple)}


async def _see(browser: Browser, file: Path, scheme: Scheme, width: int = 1200) -> Seen:
    page = await browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    told: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    await page.goto(file.as_uri())
    image = Image.open(io.BytesIO(await page.screenshot(full_page=True))).convert("RGB")
    return Seen(page, image, told, requested)


async def _written(clickhouse: ClickHouseSettings, file: Path) -> Path:
    now = datetime.now(UTC)
    report = await make_report(clickhouse, since=(now - timedelta(days=30)).date(), made_at=now, tenant=None)
    await asyncio.to_thread(file.write_text, html_page(report), encoding="utf-8")
    return file


async def test_charts_are_drawn_light_and_dark(browser: Browser, clickhouse: ClickHouseSettings, tmp_path: Path) -> None:
    """Each chart has its place, below the one before and within the page, and is full of marks; dark has colours of its own."""
    await land_history(clickhouse, datetime.now(UTC), cases=240, tenants=("acme", "globex"), hostile=True)
    file = await _written(clickhouse, tmp_path / "report.html")
    light, dark = await _see(browser, file, "light"), await _see(browser, file, "dark")
    for seen in (light, dark):
        assert (seen.told, seen.requested) == ([], [file.as_uri()])
        assert await seen.page.evaluate("document.querySelectorAll('script, img').length") == 0
        bottoms = [0]
        for chart in CHARTS:
            left, top, right, bottom = await seen.box(f"#{chart}")
            assert top >= bottoms[-1], chart
            assert (left >= 0, right <= 1200, right - left > 900, bottom - top > 100) == (True,) * 4, chart
            bottoms.append(bottom)
    for chart in CHARTS:
        looks = await _marks(light, dark, chart)
        by_day, by_night = looks
        assert by_day != by_night, chart
    # The background is light by day and dark by night.
    assert min(light.image.getpixel((3, 3))) > 200  # type: ignore[arg-type]
    assert max(dark.image.getpixel((3, 3))) < 60  # type: ignore[arg-type]
    await _ink_is_where_data_is(light)


async def _marks(light: Seen, dark: Seen, chart: str) -> Sequence[tuple[int, ...]]:
    """The most frequent colour of a chart but its background, by day and by night; a good part of it is drawn."""
    made: list[tuple[int, ...]] = []
    for seen in (light, dark):
        colours = sorted((await seen.colours(f"#{chart}")).items(), key=lambda each: -each[1])
        total = sum(count for _, count in colours)
        assert colours[0][1] < 0.985 * total, f"{chart}: nearly nothing is drawn"
        assert len(colours) > 20, chart
        made.append(colours[1][0])
    return made


async def _ink_is_where_data_is(seen: Seen) -> None:
    """The longest bar of the funnel is filled from end to end, and the survival curve falls from top left to bottom right."""
    left, top, right, bottom = await seen.box("#funnel .row:first-of-type .fill-1")
    middle = (top + bottom) // 2
    bar = {seen.image.getpixel((x, middle)) for x in range(left + 4, right - 4)}
    assert len(bar) == 1
    left, top, right, bottom = await seen.box("#survival path.line-1")
    [colour] = bar
    first, last = ([y for y in range(top, bottom + 1) if seen.image.getpixel((x, y)) == colour] for x in (left + 2, right - 3))
    assert first
    assert last
    assert first[0] < top + (bottom - top) * 0.2
    assert last[-1] > top + (bottom - top) * 0.7


async def test_an_empty_report_is_a_page_of_sentences(browser: Browser, clickhouse: ClickHouseSettings, tmp_path: Path) -> None:
    """Nothing but text, and not wider than a telephone."""
    file = await _written(clickhouse, tmp_path / "empty.html")
    seen = await _see(browser, file, "light", width=390)
    assert (seen.told, seen.requested) == ([], [file.as_uri()])
    assert await seen.page.locator("svg").count() == 0
    assert await seen.page.locator(".empty").count() == len(CHARTS) + 1
    assert await seen.page.evaluate("document.documentElement.scrollWidth") <= 390
