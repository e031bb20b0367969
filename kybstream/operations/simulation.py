"""The simulator, set up from a configuration: keys, addresses, and links through Kafka."""

from __future__ import annotations

from datetime import UTC, datetime

from kybstream.errors import UsageError
from kybstream.operations.links import register_links
from kybstream.settings import Settings, TenantSettings
from kybstream.simulator import Faults, LinkRegistrar, PlannedLink, SimulationConfig
from schemas.links import make_link
from streams.policy import TenantPolicy


def simulation_config(
    settings: Settings, *, started_at: int, cases: int, seed: int, faults: Faults, scale: float
) -> SimulationConfig:
    """What to simulate, with the keys of the only tenant.

    Raises:
        UsageError: There is not exactly one tenant, or a number makes no sense.
    """
    tenant = _only_tenant(settings)
    return SimulationConfig(
        case_token_key=tenant.case_token_keys[0].reveal(),
        pseudonymiser=TenantPolicy.of(tenant).pseudonymiser,
        started_at=started_at,
        cases=cases,
        seed=seed,
        faults=faults,
        scale_seconds_per_day=scale,
    )


def source_url(settings: Settings, name: str, base_url: str | None = None) -> str:
    """The webhook URL of a source; it holds the source's token.

    Raises:
        UsageError: There is no source of that name.
    """
    source = next((source for source in settings.sources if source.name == name), None)
    if source is None:
        raise UsageError(f"there is no source {name}")
    return f"{(base_url or settings.ingress.base_url).rstrip('/')}/webhooks/{source.name}/{source.token}"


def link_registrar(settings: Settings) -> LinkRegistrar:
    """Registers planned links as an integrator would."""
    tenant = _only_tenant(settings)
    pseudonymiser = TenantPolicy.of(tenant).pseudonymiser

    async def register(link: PlannedLink) -> None:
        subject = pseudonymiser.subject(link.merchant_no, link.sub_merchant_no, link.user_no)
        made = make_link(
            tenant.name,
            link.case_id,
            subject,
            expected_subjects=link.expected_subjects,
            registered_at=datetime.now(UTC),
        )
        await register_links(settings.kafka, [made])

    return register


def _only_tenant(settings: Settings) -> TenantSettings:
    if len(settings.tenants) != 1:
        raise UsageError(f"the simulator plays to one tenant; the configuration has {len(settings.tenants)}")
    return settings.tenants[0]
