"""The rules of a tenant that the state machines need, as values: no settings, no environment, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from kybstream.privacy import Pseudonymiser
from kybstream.settings import Settings, SourceSettings, TenantSettings
from kybstream.settings.values import VOLATILE_FIELDS

DEFAULT_DEADLINE = timedelta(days=90)


@dataclass(frozen=True)
class TenantPolicy:
    """A tenant's rules.

    Attributes:
        pseudonymiser: Makes subjects and other pseudonyms.
        case_token_keys: All keys whose case tokens are accepted.
        dedup_window: A repeat at most this long after the last receipt is a duplicate.
        ongoing_aml_window: The same for `ongoing_aml_webhook`.
        deadline: An open case expires this long after its opening.
        kyc_always: Whether every case waits for KYC.
        volatile_fields: By source, fields that may change from one repeat to the next.
    """

    pseudonymiser: Pseudonymiser
    case_token_keys: tuple[bytes, ...]
    dedup_window: timedelta = timedelta(hours=72)
    ongoing_aml_window: timedelta = timedelta(minutes=10)
    deadline: timedelta = DEFAULT_DEADLINE
    kyc_always: bool = False
    volatile_fields: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def volatile(self, source: str, kind: str) -> frozenset[str]:
        """The volatile fields of a source; of one that is not configured here those of its kind."""
        found = self.volatile_fields.get(source)
        return VOLATILE_FIELDS.get(kind, frozenset()) if found is None else found

    @classmethod
    def of(cls, tenant: TenantSettings, sources: Iterable[SourceSettings] = ()) -> TenantPolicy:
        """The policy that the settings of a tenant and its sources describe."""
        return cls(
            pseudonymiser=Pseudonymiser(tenant.pseudonym_key.reveal(), tenant.pseudonym_key_version),
            case_token_keys=tuple(key.reveal() for key in tenant.case_token_keys),
            dedup_window=timedelta(hours=tenant.dedup_window_hours),
            ongoing_aml_window=timedelta(minutes=tenant.ongoing_aml_window_minutes),
            deadline=timedelta(days=tenant.case_deadline_days),
            kyc_always=tenant.kyc == "always",
            volatile_fields={source.name: frozenset(source.volatile) for source in sources if source.tenant == tenant.name},
        )


def policies(settings: Settings) -> Mapping[str, TenantPolicy]:
    """The policy of each tenant by its name."""
    return {tenant.name: TenantPolicy.of(tenant, settings.sources) for tenant in settings.tenants}
