"""What can be set, as a whole. `docs/reference/settings.md` is checked against this module and those it joins."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from kybstream.settings.components import ClickHouseSettings, IngressSettings, KafkaSettings, SinkSettings, WorkerSettings
from kybstream.settings.tenancy import EncryptionSettings, SourceSettings, TenantSettings
from kybstream.settings.values import Section


class Settings(Section):
    """The whole configuration, checked."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
    ingress: IngressSettings = Field(default_factory=IngressSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    sink: SinkSettings = Field(default_factory=SinkSettings)
    encryption: EncryptionSettings = Field(default_factory=EncryptionSettings)
    tenants: tuple[TenantSettings, ...] = ()
    sources: tuple[SourceSettings, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for what, names in (
            ("tenants", [tenant.name for tenant in self.tenants]),
            ("sources", [source.name for source in self.sources]),
            ("encryption.keys", [key.id for key in self.encryption.keys]),
        ):
            double = {name for name in names if names.count(name) > 1}
            if double:
                raise ValueError(f"{what}: the name {min(double)!r} is used twice")
        known = {tenant.name for tenant in self.tenants}
        for source in self.sources:
            if source.tenant not in known:
                raise ValueError(f"sources: {source.name!r} names the tenant {source.tenant!r}, which is not in [[tenants]]")
        return self

    @model_validator(mode="after")
    def _tables_outlast_topics(self) -> Self:
        days, hours = self.clickhouse.retention_days.model_dump(), self.kafka.retention_hours.model_dump()
        for table, kept in days.items():
            if kept is not None and 24 * kept < hours.get(table, 0):
                raise ValueError(
                    f"clickhouse.retention_days.{table} must not be less than kafka.retention_hours.{table}: a sink that finds "
                    "no row of a partition reads its topic from the beginning"
                )
        return self

    def tenant(self, name: str) -> TenantSettings | None:
        """The tenant of that name, if it is configured."""
        return next((tenant for tenant in self.tenants if tenant.name == name), None)

    def topic(self, suffix: str) -> str:
        """The full name of one of our topics, given what follows the prefix (`webhooks.raw.v1`)."""
        return self.kafka.topic_prefix + suffix
