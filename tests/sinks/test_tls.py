from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kybstream.errors import ConfigurationError, RunError
from kybstream.settings import Secret, Settings
from sinks.query import query
from tests.sinks.making import delivery
from tests.sinks.running import landed, produce, row_count, running
from tests.sinks.tls_proxy import PASSWORD, USER, make_certificate, tls_proxy


def _with(settings: Settings, **clickhouse: Any) -> Settings:
    return settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update=clickhouse)})


async def test_rows_land_over_tls_with_user_and_password(settings: Settings, tmp_path: Path) -> None:
    """With an https address, the authority's file, user and password the sink writes as ever."""
    certificate = make_certificate(tmp_path)
    async with tls_proxy(settings.clickhouse.url, certificate) as url:
        secured = _with(settings, url=url, ca_file=str(certificate), username=USER, password=Secret(PASSWORD.encode()))
        await produce(settings, [delivery(number) for number in range(20)])
        async with running(secured):
            await landed(settings, "deliveries", 20)
    assert await row_count(settings, "deliveries") == 20


async def test_a_certificate_that_is_not_trusted_ends_the_attempt(settings: Settings, tmp_path: Path) -> None:
    """It is not taken for a server that is away: nobody would mend it by waiting. The hint names the setting."""
    async with tls_proxy(settings.clickhouse.url, make_certificate(tmp_path)) as url:
        with pytest.raises(RunError, match="a certificate that is not trusted") as caught:
            await query(_with(settings, url=url, username=USER, password=Secret(PASSWORD.encode())).clickhouse, "SELECT 1")
    assert "clickhouse.ca_file" in (caught.value.hint or "")


async def test_a_wrong_password_is_named_without_telling_it(settings: Settings, tmp_path: Path) -> None:
    """The error names user and code, never the password."""
    certificate = make_certificate(tmp_path)
    async with tls_proxy(settings.clickhouse.url, certificate) as url:
        secured = _with(settings, url=url, ca_file=str(certificate), username=USER, password=Secret(b"wr0ng"))
        with pytest.raises(RunError, match=r"refuses user 'sink'.*AUTHENTICATION_FAILED") as caught:
            await query(secured.clickhouse, "SELECT 1")
    assert "wr0ng" not in repr(caught.value)


async def test_an_authoritys_file_that_cannot_be_read_is_a_configuration_error(settings: Settings, tmp_path: Path) -> None:
    """A missing file, and one that is no PEM: before anything is sent."""
    (tmp_path / "no.pem").write_text("not a certificate")
    for path in (tmp_path / "missing.pem", tmp_path / "no.pem"):
        with pytest.raises(ConfigurationError, match=r"clickhouse\.ca_file"):
            await query(_with(settings, url="https://127.0.0.1:1", ca_file=str(path)).clickhouse, "SELECT 1")
