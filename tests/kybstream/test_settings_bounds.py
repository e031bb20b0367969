"""Every number of the settings has a lower and an upper bound, and at both the code that uses it works."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from ingress.rate_limits import RateLimit
from ingress.signatures.build import SCHEMES, build_verifier
from ingress.signatures.options import MAX_SECONDS
from ingress.signatures.verifier import IdentifyingVerifier
from kybstream.errors import ConfigurationError
from kybstream.settings import EncryptionKey, Settings, SourceSettings, TenantSettings, load_settings, render_toml
from schemas.topics import ALL_TOPICS
from sinks.retention import ttl_of
from streams.policy import TenantPolicy
from streams.processing import IntakeProcess
from tests.streams.pipeline import NAMES, DictState, Door, Told, kyb_body, kyc_body, run_cases

TENANT = {"name": "acme", "pseudonym_key": "k" * 16, "case_token_keys": ["k" * 16]}
SOURCE = {"name": "kyc", "kind": "kyc-registration", "tenant": "acme", "token": "t" * 22}
LATE = datetime(2190, 12, 31, tzinfo=UTC)
CLICKHOUSE_ENDS = datetime(2299, 12, 31, tzinfo=UTC)
LONG = 2**63 - 1


def numbers(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every key whose value is a number, with its JSON schema."""
    models = {"tenants": TenantSettings, "sources": SourceSettings, "keys": EncryptionKey}
    for name, field in model.model_fields.items():
        inner: Any = models.get(name) or field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from numbers(inner, (*path, name))
            continue
        checked: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        try:
            schema = TypeAdapter(checked).json_schema()
        except PydanticInvalidForJsonSchema:
            continue  # a secret
        for one in schema.get("anyOf", [schema]):
            if one.get("type") in {"integer", "number"}:
                yield (*path, name), one


NUMBERS = dict(numbers(Settings))
EACH = pytest.mark.parametrize("path", NUMBERS, ids=".".join)


def lowest(path: tuple[str, ...]) -> float:
    """The least value of a key; where the bound itself is left out, the next one above."""
    one = NUMBERS[path]
    if "minimum" in one:
        return one["minimum"]  # type: ignore[no-any-return]
    return math.nextafter(one["exclusiveMinimum"], math.inf)


def configured(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A configuration with this value."""
    content: Any = value
    for name in reversed(path):
        content = {name: content}
    if path[0] in {"tenants", "sources"}:
        content = {path[0]: [(TENANT if path[0] == "tenants" else SOURCE) | content[path[0]]]}
        if path[-1] == "rate_limit_burst":
            content["tenants"][0]["rate_limit_per_second"] = 1
    result: dict[str, Any] = {"tenants": [TENANT]} | content
    return result


def test_there_are_numbers_in_every_section() -> None:
    """The walk finds them all: in sections, in sections of sections, in tenants and in sources."""
    assert {path[0] for path in NUMBERS} == set(Settings.model_fields) - {"encryption"}
    assert {("kafka", "retention_hours", "raw"), ("tenants", "case_deadline_days"), ("sources", "max_body_bytes")} < set(
        NUMBERS
    )


def refusal(path: tuple[str, ...], value: object) -> str:
    """What is said of a configuration with this value; nothing when it is taken."""
    try:
        Settings.model_validate(configured(path, value))
    except ValidationError as error:
        return f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
    return ""


@EACH
def test_a_number_beyond_its_bounds_is_one_clear_sentence(path: tuple[str, ...], tmp_path: Path) -> None:
    """Below, above, infinite, or no number: it names the key and the bound."""
    one = NUMBERS[path]
    assert math.isfinite(one["maximum"])
    below = (one["minimum"] if "minimum" in one else one["exclusiveMinimum"]) - 1
    for value in (below, one["maximum"] + 1, 1e9 * one["maximum"], math.inf, -math.inf, math.nan):
        assert path[-1] in refusal(path, value)
    file = tmp_path / "kyb-stream.toml"
    content = configured(path, one["maximum"] + 1)
    nested = path[1] if len(path) > 2 else None
    file.write_text("" if nested else render_toml(content))
    variables = {f"KYB_STREAM_{'__'.join(path).upper()}": str(one["maximum"] + 1)} if nested else {}
    with pytest.raises(ConfigurationError, match=rf"{path[-1]}: should be less than or equal to {one['maximum']}$"):
        load_settings(file, variables)


@EACH
def test_both_bounds_are_taken(path: tuple[str, ...]) -> None:
    """Unless another key must go with them, which is said."""
    for value in (lowest(path), NUMBERS[path]["maximum"]):
        told = refusal(path, value)
        assert told == "" or " must " in told


def tenant(**changes: float) -> TenantSettings:
    """A tenant with these numbers."""
    return TenantSettings.model_validate(TENANT | changes)


def extremes(key: str) -> tuple[float, float]:
    """The least and the greatest value of a tenant's key."""
    return lowest(("tenants", key)), NUMBERS["tenants", key]["maximum"]


@pytest.mark.parametrize("deadline", extremes("case_deadline_days"))
@pytest.mark.parametrize("window", extremes("dedup_window_hours"))
@pytest.mark.parametrize("aml_window", extremes("ongoing_aml_window_minutes"))
def test_cases_work_at_the_extremes_of_their_times(deadline: float, window: float, aml_window: float) -> None:
    """Intake, state, fold and expiry, at a time far from now: no dead letter, and dates that ClickHouse holds."""
    settings = tenant(case_deadline_days=deadline, dedup_window_hours=window, ongoing_aml_window_minutes=aml_window)
    policies = {"acme": TenantPolicy.of(settings)}
    door, state, told = Door(), DictState(), Told()
    bodies = [kyb_body(), kyc_body(), kyb_body(type="ongoing_aml_webhook"), kyb_body(), kyb_body(status="resolved")]
    for number, body in enumerate(bodies):
        sent = door.delivery(body, received_at=LATE + timedelta(minutes=number))
        pseudonymiser = policies["acme"].pseudonymiser
        if "userNo" in body:
            subject = pseudonymiser.subject("TEST000001", "MER10123012", str(body["userNo"]))
            sent = msgspec.structs.replace(sent, entity_key=f"acme/{subject}")
        result = IntakeProcess(policies, NAMES)(0, [door.record(sent)], state)
        state.write(result.writes)
        told.outputs += result.outputs
    assert told.dead_letters == []
    assert [delivery.verdict for delivery in told.deliveries] == ["new", "new", "new", "duplicate", "new"]
    cases = run_cases([output for output in told.outputs if output.topic == NAMES.case_events], policies)
    assert len(cases) == 4
    assert {case.deadline_at <= CLICKHOUSE_ENDS for case in cases} == {True}


def test_topics_and_tables_hold_the_longest_retention() -> None:
    """Kafka's milliseconds are a long; ClickHouse's TTL is a DateTime, which ends in 2106 and begins again in 1970."""
    hours = {path[-1]: NUMBERS[path]["maximum"] for path in NUMBERS if path[:2] == ("kafka", "retention_hours")}
    kafka = Settings.model_validate({"kafka": {"retention_hours": hours}}).kafka
    for topic in ALL_TOPICS:
        assert int(topic.config(kafka).get("retention.ms", 0)) <= LONG
    days = {NUMBERS[path]["maximum"] for path in NUMBERS if path[:2] == ("clickhouse", "retention_days")}
    assert ttl_of("received_at", max(days)) == f"toDateTime(received_at) + toIntervalDay({max(days)})"
    last = datetime.fromtimestamp(2**32 - 1, UTC)
    assert datetime(2056, 1, 1, tzinfo=UTC) + timedelta(days=max(days)) <= last


@pytest.mark.parametrize("per_second", extremes("rate_limit_per_second"))
@pytest.mark.parametrize("burst", [None, *extremes("rate_limit_burst")])
def test_a_rate_limit_says_when_to_come_again(per_second: float, burst: float | None) -> None:
    """In seconds that a `Retry-After` can hold."""
    limit = RateLimit(per_second, None if burst is None else int(burst))
    waits = [limit.draw(0.0) for _ in range(3)]
    assert all(math.ceil(wait) <= 86_400 for wait in waits)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_tolerance_of_signatures_has_bounds(scheme: str) -> None:
    """A day at most: so long is a captured request good, and so long are its ids remembered."""

    def build(tolerance: float) -> Any:
        keys = {"header": "X-Sig"} if scheme.endswith("hmac") else {}
        signature = {"scheme": scheme, "secrets": ["s" * 16], "tolerance_seconds": tolerance, **keys}
        return build_verifier(SourceSettings.model_validate(SOURCE | {"signature": signature}))

    try:
        verifier = build(MAX_SECONDS)
    except ConfigurationError as error:
        assert "is not a known key" in error.message  # noqa: PT017 - it has no timestamp
        return
    assert verifier.tolerance_seconds == MAX_SECONDS
    assert isinstance(verifier, IdentifyingVerifier) == (scheme == "standard-webhooks")
    for bad in (0, -1, MAX_SECONDS + 1, 1e18, math.inf, math.nan):
        with pytest.raises(ConfigurationError, match=f"at most {MAX_SECONDS}"):
            build(bad)
