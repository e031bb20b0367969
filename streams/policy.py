"""The rules of a tenant that the state machines need, as values: no settings, no environment, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from kybstream.privacy import Pseudonymiser
from kybstream.settings import Settings, TenantSettings

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
    """

    pseudonymiser: Pseudonymiser
    case_token_keys: tuple[bytes, ...]
    dedup_window: timedelta = timedelta(hours=72)
    ongoing_aml_window: timedelta = timedelta(minutes=10)
    deadline: timedelta = DEFAULT_DEADLINE
    kyc_always: bool = False

    @classmethod
    def of(cls, tenant: TenantSettings) -> TenantPolicy:
        """The policy that a tenant's settings describe."""
        return cls(
            pseudonymiser=Pseudonymiser(tenant.pseudonym_key.reveal(), tenant.pseudonym_key_version),
            case_token_keys=tuple(key.reveal() for key in tenant.case_token_keys),
            dedup_window=timedelta(hours=tenant.dedup_window_hours),
            ongoing_aml_window=timedelta(minutes=tenant.ongoing_aml_window_minutes),
            deadline=timedelta(days=tenant.case_deadline_days),
            kyc_always=tenant.kyc == "always",
        )


def policies(settings: Settings) -> Mapping[str, TenantPolicy]:
    """The policy of each tenant by its name."""
    return {tenant.name: TenantPolicy.of(tenant) for tenant in settings.tenants}
