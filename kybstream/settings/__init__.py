"""The configuration: one TOML file, any value overridden by `KYB_STREAM_<SECTION>__<KEY>`.

`model` says what may be set and what it means (joining `components` and `tenancy`), `load` reads it and words the errors,
`secret` keeps values out of sight.
"""

from kybstream.settings.components import ClickHouseSettings, IngressSettings, KafkaSettings, SinkSettings, WorkerSettings
from kybstream.settings.load import load_settings, render_toml
from kybstream.settings.model import Settings
from kybstream.settings.secret import Secret
from kybstream.settings.tenancy import EncryptionKey, EncryptionSettings, SourceSettings, TenantSettings
from kybstream.settings.values import UNKNOWN_SOURCE, SourceKind

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
