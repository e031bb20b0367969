"""docs/reference/settings.md: every key, from the model of the settings and from the signature schemes themselves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from kybstream.settings import EncryptionKey, Secret, Settings, SourceSettings, TenantSettings
from kybstream.settings.components import RetentionSettings, TableRetentionSettings
from kybstream.settings.tenancy import SignatureSettings
from tests.docs.markdown import code, intro, prose, table
from tests.docs.signature_keys import scheme_keys

INTRO = intro("settings")

SECTIONS = {
    "kafka": "Where Kafka is, and how our topics are made. The same for every component.",
    "clickhouse": "Where ClickHouse answers HTTP. Read by `sink`, `migrate`, `sql` and `reconcile`.",
    "ingress": "The HTTP door. Read by `ingress`, and by the commands that print or use its URLs.",
    "worker": "The Faust worker. Read by `worker` and `migrate`.",
    "sink": "The writer into ClickHouse. Read by `sink`.",
    "encryption": (
        "Encryption of webhook bodies in Kafka: AES-256-GCM, with data keys that the keys here wrap. Read by `ingress`, "
        "which encrypts under the first key, and by `worker`, which must have every key that ever encrypted."
    ),
}

NESTED: dict[str, tuple[tuple[str, str, type[BaseModel]], ...]] = {
    "kafka": (
        (
            "[kafka.retention_hours]",
            "Hours. The topics `cases` and `links` are compacted and have no limit. For topics that `migrate` makes anew.",
            RetentionSettings,
        ),
    ),
    "clickhouse": (
        (
            "[clickhouse.retention_days]",
            "Days; `migrate` gives the tables a TTL of it, changes it and takes it off again. Not less than the topic's hours.",
            TableRetentionSettings,
        ),
    ),
    "encryption": (
        (
            "[[encryption.keys]]",
            "`openssl rand -base64 32` makes a key; [how to change it](../how-to/production.md#change-the-key-of-bodies).",
            EncryptionKey,
        ),
    ),
}

# What the model leaves to the name of the key.
MEANINGS = {
    "kafka.security_protocol": "how to talk to the brokers",
    "kafka.sasl_mechanism": "with a `SASL_…` protocol",
    "kafka.sasl_username": "with a `SASL_…` protocol",
    "kafka.sasl_password": "with a `SASL_…` protocol",
    "clickhouse.username": "needs the rights to create and to insert (`migrate`, `sink`), else to read",
    "clickhouse.password": "of that user; empty: none",
    "worker.store": "`memory` reads all state from Kafka at each start",
    "worker.commit_interval_seconds": "how often offsets are committed; a restart processes again what came since",
    "sink.flush_rows": "a batch is written when one partition has so many; others of its table join it up to this number",
    "sink.flush_bytes": "or when it has so many bytes",
    "tenants.name": "appears in keys, tables and logs: not a secret",
    "tenants.pseudonym_key_version": "part of every pseudonym; raise it with a new key",
    "sources.name": "part of the URL, and of every record",
    "sources.kind": "which provider's document it speaks",
    "sources.tenant": "the `name` of one of `[[tenants]]`",
    "sources.signature": "how a webhook is authenticated besides its URL: [signature schemes](#signature-schemes)",
    "sources.max_body_bytes": "largest body, as sent and inflated; a larger one gets 413",
}


_LONG_NUMBER = 9_999


def settings_page() -> str:
    """The whole page."""
    parts = [INTRO]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            model = _model(field)
            parts.append(f"## `[{name}]`\n\n{SECTIONS[name]}\n\n{_keys(name, model)}\n")
        for title, what, inner in NESTED.get(name, ()):
            parts.append(f"### `{title}`\n\n{what}\n\n{_keys(title.strip('[]'), inner)}\n")
    parts.append(
        "## `[[tenants]]`\n\nOne table for each customer of yours: it owns sources, keys and the rules of its cases.\n\n"
        f"{_keys('tenants', TenantSettings)}\n"
    )
    parts.append(
        "## `[[sources]]`\n\nOne table for each webhook address: `POST /webhooks/<name>/<token>`, and for KYC also with a case "
        f"token behind it.\n\n{_keys('sources', SourceSettings)}\n"
    )
    parts.append(_schemes())
    return "\n".join(parts)


def _keys(section: str, model: type[BaseModel]) -> str:
    return table(
        ("key", "type", "default", "meaning"),
        (
            (code(name), _type(model, name), _default(field), prose(_meaning(f"{section}.{name}", field)))
            for name, field in model.model_fields.items()
            if not name.startswith("retention_")
        ),
    )


def _meaning(key: str, field: FieldInfo) -> str:
    meaning = field.description or MEANINGS.get(key)
    if not meaning:
        raise KeyError(f"{key} has no description in kybstream/settings, and none in {__name__}.MEANINGS")
    return meaning


def _model(field: FieldInfo) -> type[BaseModel]:
    if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
        raise TypeError(f"{field.annotation} is no section")
    return field.annotation


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value: object = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            shown = "not set"
        case () | Secret():
            shown = "empty"
        case SignatureSettings():
            shown = code(f'{{ scheme = "{value.scheme}" }}')
        case str():
            shown = code(f'"{value}"')
        case bool():
            shown = code(str(value).lower())
        case int() | float():
            shown = code(f"{value:_}" if value > _LONG_NUMBER else f"{value:g}")
        case _:
            raise TypeError(f"a default that the page has no words for: {type(value).__name__}")
    return shown


def _type(model: type[BaseModel], name: str) -> str:
    """The type and its bounds, as the JSON schema of the model has them."""
    field = model.model_fields[name]
    annotation = str(field.annotation)
    if "Secret" in annotation:
        least = ", at least 16 bytes each" if "tuple" in annotation else ", at least 16 bytes"
        kind = "list of secrets" if "tuple" in annotation else "secret"
        return kind + (least if "LongSecret" in annotation or _is_long(field) else "")
    if name == "signature":
        return "table"
    if "cidr" in annotation:
        return "list of CIDRs"
    if "EncryptionKey" in annotation:
        return "list of tables"
    checked: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return _of_schema(TypeAdapter(checked).json_schema())


def _is_long(field: FieldInfo) -> bool:
    return any("_long_enough" in repr(part) for part in (*field.metadata, field.annotation))


def _of_schema(schema: dict[str, Any]) -> str:
    options = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    one = options[0]
    if one["type"] == "array":
        return "list of texts"
    if "enum" in one:
        return ", ".join(code(f'"{value}"') for value in one["enum"])
    kind = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}[one["type"]]
    bounds = [
        f"{word} {one[key]:_}"
        for key, word in (("exclusiveMinimum", "above"), ("minimum", "from"), ("maximum", "to"))
        if key in one
    ]
    if "pattern" in one:
        bounds.append(f"as {code(one['pattern'].strip('^$'))}")
    return f"{kind} {' '.join(bounds)}".strip()


def _schemes() -> str:
    parts = [intro("signature-schemes")]
    for name, scheme in scheme_keys().items():
        parts.append(f"### `{name}`\n\n{scheme.what}\n")
        if scheme.keys:
            rows = ((code(key), code(default) or "**required**", prose(text)) for key, default, text in scheme.keys)
            parts.append(table(("key", "default", "meaning"), rows) + "\n")
    return "\n".join(parts)
