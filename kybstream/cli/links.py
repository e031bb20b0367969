"""`kyb-stream links`."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

import click
import msgspec
from rich.table import Table

from ingress.link_requests import (
    CASE_ID,
    EXPECTED_SUBJECTS,
    MERCHANT_NO,
    SUB_MERCHANT_NO,
    SUBJECT,
    USER_NO,
    InvalidLinkError,
    LinkRequest,
    link_request,
)
from kybstream.cli import options
from kybstream.cli.consoles import table_console
from kybstream.errors import RunError, UsageError
from kybstream.operations.links import LinkFilter, list_links, register_links, withdraw_link
from kybstream.settings import Settings, TenantSettings, load_settings
from kybstream.terminal import visible, visible_json
from schemas.links import make_link, make_withdrawal
from schemas.records import Link
from streams.links import what_is_wrong
from streams.policy import TenantPolicy

COLUMNS = ("tenant", "subject", "case_id", "expected_subjects", "registered_at", "link_id")

F = TypeVar("F", bound=Callable[..., object])


def _person(function: F) -> F:
    """The options that say which person of which tenant is meant."""
    for option in reversed((
        click.option("--subject", help="The subject's pseudonym, as topics and tables show it."),
        click.option("--user-no", help="The KYC provider's userNo, instead of --subject."),
        click.option("--merchant-no", default="", help="With --user-no: merchantNo."),
        click.option("--sub-merchant-no", default="", help="With --user-no: subMerchantNo."),
        click.option("--tenant", "tenant_name", help="Owner of the case; needed where there are several."),
    )):  # fmt: skip
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Tell which case a KYC subject belongs to."""


@command.command()
@click.option("--case", "case_id", required=True, help="The KYB service_id of the case.")
@click.option("--expected", type=click.IntRange(1, 10_000), help="How many subjects the case waits for.")
@_person
@options.config
def add(case_id: str, expected: int | None, config_path: Path | None, tenant_name: str | None, **person: str | None) -> None:
    """Register that a case has a KYC subject; before or after the callback.

    Callbacks of the subject that wait on a case of their own go to the case.
    """
    settings = load_settings(config_path)
    asked = _asked(case_id, expected, person)
    tenant = _tenant(settings, tenant_name)
    pseudonym = asked.pseudonym(TenantPolicy.of(tenant).pseudonymiser)
    link = make_link(
        tenant.name, asked.case_id, pseudonym, expected_subjects=asked.expected_subjects, registered_at=datetime.now(UTC)
    )
    asyncio.run(register_links(settings.kafka, [link]))
    click.echo(visible(f"link {link.link_id}: subject {pseudonym} belongs to case {link.case_id}"))


@command.command("list")
@click.option("--case", "case_id", help="Of this case.")
@click.option("--subject", help="Of this subject, by its pseudonym.")
@click.option("--tenant", "tenant_name", help="Of this tenant.")
@click.option("--format", "output", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@options.config
def list_(
    config_path: Path | None,
    output: Literal["table", "json", "csv"],
    case_id: str | None,
    subject: str | None,
    tenant_name: str | None,
) -> None:
    """List the registered links in force: one line for each subject and case.

    It reads the whole links topic. A subject with several lines is ambiguous; Kafka, which compacts the topic, may have
    kept only the newest line of such a subject.
    """
    settings = load_settings(config_path)
    if tenant_name is not None:
        _tenant(settings, tenant_name)
    links = asyncio.run(list_links(settings.kafka, LinkFilter(tenant_name, case_id, subject)))
    match output:
        case "json":
            for link in links:
                click.echo(visible_json(msgspec.json.encode(link)))
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_cells(link) for link in links)
        case "table":
            _show(links)


@command.command()
@click.option("--case", "case_id", required=True, help="The case that the link names.")
@_person
@click.option("--unlisted", is_flag=True, help="Also if `links list` does not show the link.")
@options.config
def remove(case_id: str, config_path: Path | None, tenant_name: str | None, *, unlisted: bool, **person: str | None) -> None:
    """Take back that a case has a KYC subject: the case becomes as if it had never been registered.

    Results that came to the case by the link leave it: they go where another link or a token says, else back to a case of
    their own. A token that names the same case stands.
    """
    settings = load_settings(config_path)
    tenant = _tenant(settings, tenant_name)
    pseudonym = _pseudonym(tenant, **person)
    now = datetime.now(UTC)
    wrong = what_is_wrong(make_withdrawal(tenant.name, case_id, pseudonym, withdrawn_at=now))
    if wrong is not None:
        raise UsageError(f"there can be no such link: {wrong}")
    done = asyncio.run(withdraw_link(settings.kafka, tenant.name, case_id, pseudonym, now=now, unlisted=unlisted))
    if done is None:
        raise RunError(
            f"subject {pseudonym} is not registered for case {case_id}",
            hint="`kyb-stream links list` shows what is; --unlisted takes back a link that Kafka has compacted away",
        )
    said = f"withdrawal {done.withdrawal.withdrawal_id}: subject {pseudonym} is not registered for case {case_id} any more"
    click.echo(visible(said))
    for link in done.remaining:
        click.echo(visible(f"it is still registered for case {link.case_id}"))


def _asked(case_id: str, expected: int | None, person: Mapping[str, str | None]) -> LinkRequest:
    """What is to be registered, held to the same rules as a registration by HTTP."""
    _require_one(person["subject"], person["user_no"])
    given = {CASE_ID: case_id, EXPECTED_SUBJECTS: expected, **person}
    try:
        return link_request({name: value for name, value in given.items() if value is not None and value != _UNSAID.get(name)})
    except InvalidLinkError as error:
        # A pointer names a field, an option is named after it. What was given is not told: it may be a person's number.
        raise UsageError("; ".join(f"{_OPTIONS.get(each.pointer, 'a link')} {each.detail}" for each in error.errors)) from None


_UNSAID = {MERCHANT_NO: "", SUB_MERCHANT_NO: ""}
_OPTIONS = {"#/case_id": "--case"} | {
    f"#/{name}": f"--{name.replace('_', '-')}" for name in (SUBJECT, USER_NO, MERCHANT_NO, SUB_MERCHANT_NO)
}


def _require_one(subject: str | None, user_no: str | None) -> None:
    if (subject is None) == (user_no is None):
        raise UsageError("give either --subject or --user-no")


def _tenant(settings: Settings, name: str | None) -> TenantSettings:
    tenants = [tenant for tenant in settings.tenants if name in {None, tenant.name}]
    if len(tenants) == 1:
        return tenants[0]
    known = ", ".join(tenant.name for tenant in settings.tenants) or "none"
    raise UsageError(
        f"there is no tenant {name}" if name else "which tenant is meant is not clear", hint=f"--tenant NAME, one of: {known}"
    )


def _pseudonym(
    tenant: TenantSettings, subject: str | None, user_no: str | None, merchant_no: str | None, sub_merchant_no: str | None
) -> str:
    _require_one(subject, user_no)
    return subject or TenantPolicy.of(tenant).pseudonymiser.subject(merchant_no or "", sub_merchant_no or "", user_no or "")


def _show(links: Sequence[Link]) -> None:
    table = Table(show_edge=False, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name == "expected_subjects" else "left", overflow="fold")
    for link in links:
        table.add_row(*_cells(link))
    table_console().print(table)
    click.echo(f"{len(links)} link{'s' if len(links) != 1 else ''}")


def _cells(link: Link) -> list[str]:
    fields = msgspec.to_builtins(link)
    return ["" if fields[name] is None else visible(str(fields[name])) for name in COLUMNS]
