"""The configuration: one TOML file, any value overridden by `KYB_STREAM_<SECTION>__<KEY>`.

`model` says what may be set and what it means, `load` reads it and words the errors, `secret` keeps values out of sight.
"""

from kybstream.settings.load import load_settings, render_toml
from kybstream.settings.model import (
    UNKNOWN_SOURCE,
    ClickHouseSettings,
    EncryptionKey,
    EncryptionSettings,
    IngressSettings,
    KafkaSettings,
    Settings,
    SinkSettings,
    SourceKind,
    SourceSettings,
    TenantSettings,
    WorkerSettings,
)
from kybstream.settings.secret import Secret

__all__ = [
    "UNKNOWN_SOURCE",
    "ClickHouseSettings",
    "EncryptionKey",
    "EncryptionSettings",
    "IngressSettings",
    "KafkaSettings",
    "Secret",
    "Settings",
    "SinkSettings",
    "SourceKind",
    "SourceSettings",
    "TenantSettings",
    "WorkerSettings",
    "load_settings",
    "render_toml",
]
