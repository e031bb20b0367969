"""`kyb-stream case-token`."""

from __future__ import annotations

from pathlib import Path

import click

from kybstream.cli import options
from kybstream.errors import UsageError
from kybstream.privacy import make_case_token
from kybstream.settings import Settings, SourceSettings, load_settings


@click.command()
@click.argument("case_refs", metavar="REF...", nargs=-1, required=True)
@click.option("--source", "source_name", help="The KYC source; needed where there are several.")
@click.option("--token-only", is_flag=True, help="Print the case tokens alone, as for the `remark` field.")
@options.config
def command(case_refs: tuple[str, ...], source_name: str | None, config_path: Path | None, *, token_only: bool) -> None:
    """Print the KYC callback URL of each case, one a line. REF is the KYB service_id of the case.

    Give it to the KYC provider as the callback URL of every person of that case.
    """
    settings = load_settings(config_path)
    source = kyc_source(settings, source_name)
    tenant = settings.tenant(source.tenant)
    if tenant is None:
        raise UsageError(f"the source {source.name} has no tenant")
    for case_ref in case_refs:
        token = make_case_token(case_ref, tenant.case_token_keys[0].reveal())
        click.echo(token if token_only else f"{settings.ingress.base_url}/webhooks/{source.name}/{source.token}/{token}")


def kyc_source(settings: Settings, name: str | None) -> SourceSettings:
    """The KYC source of that name, or the only one.

    Raises:
        UsageError: There is none of that name, none at all, or several to choose from.
    """
    sources = [source for source in settings.sources if source.kind == "kyc-registration" and name in {None, source.name}]
    if len(sources) == 1:
        return sources[0]
    known = ", ".join(source.name for source in settings.sources if source.kind == "kyc-registration") or "none"
    raise UsageError(
        f"no KYC source is named {name}" if name else "which KYC source is meant is not clear",
        hint=f"--source NAME, one of: {known}",
    )
