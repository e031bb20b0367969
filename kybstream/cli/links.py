"""`kyb-stream links`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.errors import UsageError
from kybstream.operations.links import register_links
from kybstream.settings import Settings, TenantSettings, load_settings
from schemas.links import make_link
from streams.policy import TenantPolicy


@click.group()
def command() -> None:
    """Tell which case a KYC subject belongs to."""


@command.command()
@click.option("--case", "case_id", required=True, help="The KYB service_id of the case.")
@click.option("--subject", help="The subject's pseudonym, as topics and tables show it.")
@click.option("--user-no", help="The KYC provider's userNo, instead of --subject.")
@click.option("--merchant-no", default="", help="With --user-no: merchantNo.")
@click.option("--sub-merchant-no", default="", help="With --user-no: subMerchantNo.")
@click.option("--expected", type=click.IntRange(1, 10_000), help="How many subjects the case waits for.")
@click.option("--tenant", "tenant_name", help="Owner of the case; needed where there are several.")
@options.config
def add(  # noqa: PLR0917 (click passes options by name)
    case_id: str,
    subject: str | None,
    user_no: str | None,
    merchant_no: str,
    sub_merchant_no: str,
    expected: int | None,
    tenant_name: str | None,
    config_path: Path | None,
) -> None:
    """Register that a case has a KYC subject; before or after the callback.

    Callbacks of the subject that wait on a case of their own go to the case.
    """
    settings = load_settings(config_path)
    tenant = _tenant(settings, tenant_name)
    if (subject is None) == (user_no is None):
        raise UsageError("give either --subject or --user-no")
    pseudonym = subject or TenantPolicy.of(tenant).pseudonymiser.subject(merchant_no, sub_merchant_no, user_no or "")
    link = make_link(tenant.name, case_id, pseudonym, expected_subjects=expected, registered_at=datetime.now(UTC))
    asyncio.run(register_links(settings.kafka, [link]))
    click.echo(f"link {link.link_id}: subject {pseudonym} belongs to case {case_id}")


def _tenant(settings: Settings, name: str | None) -> TenantSettings:
    tenants = [tenant for tenant in settings.tenants if name in {None, tenant.name}]
    if len(tenants) == 1:
        return tenants[0]
    known = ", ".join(tenant.name for tenant in settings.tenants) or "none"
    raise UsageError(
        f"there is no tenant {name}" if name else "which tenant is meant is not clear", hint=f"--tenant NAME, one of: {known}"
    )
