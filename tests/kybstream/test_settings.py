from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.errors import ConfigurationError
from kybstream.settings import Secret, Settings, load_settings, render_toml

TOKEN = "source-token-0123456789-abcdef"
PSEUDONYM_KEY = "pseudonym-key-of-acme"
CASE_KEY = "case-token-key-of-acme"
TENANT = f"""
[[tenants]]
name = "acme"
pseudonym_key = "{PSEUDONYM_KEY}"
case_token_keys = ["{CASE_KEY}"]
"""
SOURCE = f"""
[[sources]]
name = "kyb"
kind = "kyb-service"
tenant = "acme"
token = "{TOKEN}"
"""

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a text as the configuration file, with an environment that holds nothing else."""

    def load_text(text: str = "", **environ: str) -> Settings:
        file = tmp_path / "kyb-stream.toml"
        file.write_text(text)
        return load_settings(file, environ)

    return load_text


def refusal(load: Load, text: str = "", **environ: str) -> str:
    """The one sentence that a bad configuration gets; always with exit code 2 and never with our secrets in it."""
    with pytest.raises(ConfigurationError) as refused:
        load(text, **environ)
    assert refused.value.exit_code == 2
    shown = f"{refused.value.message} {refused.value.hint} {refused.value!r} {refused.value.__cause__}"
    assert not any(secret in shown for secret in (TOKEN, PSEUDONYM_KEY, CASE_KEY, "s3cret"))
    return refused.value.message


def test_defaults_are_those_of_the_documentation(load: Load) -> None:
    """An empty file is a configuration."""
    loaded = load()
    assert (loaded.kafka.bootstrap_servers, loaded.kafka.topic_prefix, loaded.kafka.partitions) == ("localhost:9092", "kyb.", 8)
    assert (loaded.clickhouse.url, loaded.clickhouse.database) == ("http://localhost:8123", "kyb")
    assert (loaded.ingress.host, loaded.ingress.port) == ("127.0.0.1", 8080)
    assert loaded.topic("cases.v1") == "kyb.cases.v1"
    retention = loaded.kafka.retention_hours
    assert (retention.raw, retention.deliveries, retention.case_events) == (7 * 24, 7 * 24, 7 * 24)
    assert (retention.events, retention.dead_letters, retention.replays) == (30 * 24, 30 * 24, 365 * 24)


def test_defaults_of_tenants_and_sources(load: Load) -> None:
    """72 hours, 10 minutes, 90 days, KYC only where something names it, 1 MiB, any peer, path token alone."""
    loaded = load(TENANT + SOURCE)
    (tenant,), (source,) = loaded.tenants, loaded.sources
    assert (tenant.dedup_window_hours, tenant.ongoing_aml_window_minutes, tenant.case_deadline_days) == (72, 10, 90)
    assert (tenant.kyc, source.max_body_bytes, source.allow, source.signature.scheme) == ("when-linked", 1_048_576, (), "none")
    assert loaded.tenant("acme") is tenant
    assert loaded.tenant("globex") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[kafka]\npartitons = 8", "kafka.partitons: is not a known key"),
        ("[kafak]\n", "kafak: is not a known key"),
        ("[kafka]\npartitions = 0", "kafka.partitions: should be greater than or equal to 1"),
        ('[kafka]\npartitions = "many"', "kafka.partitions: should be a valid integer"),
        ("[kafka.retention_hours]\nraw = 0", "kafka.retention_hours.raw: should be greater"),
        ('[clickhouse]\nurl = "localhost:8123"', "clickhouse.url: must be an http:// or https:// URL with a host"),
        ('[clickhouse]\ndatabase = "kyb; drop"', "clickhouse.database: must match ^[A-Za-z_]"),
        ("[ingress]\nport = 70000", "ingress.port: should be less than or equal to 65535"),
        ("[clickhouse]\npassword = 5", "clickhouse.password: must be text: the secret itself, env:NAME or file:PATH"),
        (TENANT.replace("name", "nmae"), "tenants[0].name: is missing"),
        (TENANT + "kyc = 'never'", "tenants[0].kyc: should be 'when-linked' or 'always'"),
        (TENANT + "dedup_window_hours = 48", "tenants[0].dedup_window_hours: should be greater than 48"),
        (TENANT.replace(PSEUDONYM_KEY, "short"), "tenants[0].pseudonym_key: must have at least 16 bytes"),
        (TENANT.replace(f'"{CASE_KEY}"', ""), "tenants[0].case_token_keys: "),
        (TENANT.replace(CASE_KEY, "short"), "tenants[0].case_token_keys[0]: must have at least 16 bytes"),
        (TENANT + TENANT, "tenants: the name 'acme' is used twice"),
        (SOURCE, "sources: 'kyb' names the tenant 'acme', which is not in [[tenants]]"),
        (TENANT + SOURCE + SOURCE, "sources: the name 'kyb' is used twice"),
        (TENANT + SOURCE.replace(TOKEN, "short"), "sources[0].token: must match ^[A-Za-z0-9_-]{22,256}$"),
        (TENANT + SOURCE.replace("kyb-service", "kyc"), "sources[0].kind: should be 'kyb-service' or 'kyc-registration'"),
        (TENANT + SOURCE + 'allow = ["300.1.1.1/8"]', "sources[0].allow[0]: '300.1.1.1/8' does not appear to be an IPv4"),
        (TENANT + SOURCE + 'signature = { scheme = "rot13" }', "sources[0].signature.scheme: should be 'none', 'hmac'"),
        (TENANT + SOURCE + 'signature = { scheme = "hmac" }', "sources[0].signature: scheme 'hmac' needs `secrets`"),
        ("[kafka", "is not valid TOML: "),
    ],
    ids=lambda value: value.strip().splitlines()[-1] if isinstance(value, str) else None,
)
def test_an_error_names_file_key_and_expectation(load: Load, tmp_path: Path, text: str, sentence: str) -> None:
    """One sentence that a person can act on."""
    assert refusal(load, text).startswith(f"{tmp_path / 'kyb-stream.toml'}: {sentence}")


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """Given by the option or by the variable; a folder is no file either."""
    missing = tmp_path / "none.toml"
    with pytest.raises(ConfigurationError, match=r"none\.toml: there is no such file"):
        load_settings(missing, {})
    with pytest.raises(ConfigurationError, match=r"none\.toml: there is no such file"):
        load_settings(None, {"KYB_STREAM_CONFIG": str(missing)})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path, {})


def test_without_a_file_defaults_and_environment_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `kyb-stream.toml` of the current folder, if it is there."""
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {"KYB_STREAM_KAFKA__PARTITIONS": "3"}).kafka.partitions == 3
    (tmp_path / "kyb-stream.toml").write_text("[kafka]\npartitions = 4")
    assert load_settings(None, {}).kafka.partitions == 4


def test_any_value_is_overridden_by_the_environment(load: Load) -> None:
    """Sections, deeper sections, elements of lists, and whole lists as JSON."""
    loaded = load(
        TENANT + SOURCE,
        KYB_STREAM_KAFKA__PARTITIONS="3",
        KYB_STREAM_KAFKA__RETENTION_HOURS__RAW="1",
        KYB_STREAM_SOURCES__0__TOKEN="another-token-of-22-characters",
        KYB_STREAM_SOURCES__0__ALLOW='["10.0.0.0/8"]',
        KYB_STREAM_TENANTS__0__CASE_TOKEN_KEYS__1="a-second-case-token-key",
        KYB_STREAM_INGRESS__HOST="0.0.0.0",
        OTHER="ignored",
    )
    assert (loaded.kafka.partitions, loaded.kafka.retention_hours.raw, loaded.ingress.host) == (3, 1, "0.0.0.0")
    assert loaded.sources[0].token == "another-token-of-22-characters"
    assert loaded.sources[0].allow == ("10.0.0.0/8",)
    assert [key.reveal_text() for key in loaded.tenants[0].case_token_keys] == [CASE_KEY, "a-second-case-token-key"]


def test_a_configuration_can_come_from_the_environment_alone(load: Load) -> None:
    """Elements of lists are made in order."""
    loaded = load(
        "",
        KYB_STREAM_TENANTS__0__NAME="acme",
        KYB_STREAM_TENANTS__0__PSEUDONYM_KEY=PSEUDONYM_KEY,
        KYB_STREAM_TENANTS__0__CASE_TOKEN_KEYS=f'["{CASE_KEY}"]',
        KYB_STREAM_SOURCES__0__NAME="kyb",
        KYB_STREAM_SOURCES__0__KIND="kyb-service",
        KYB_STREAM_SOURCES__0__TENANT="acme",
        KYB_STREAM_SOURCES__0__TOKEN=TOKEN,
        KYB_STREAM_SOURCES__0__SIGNATURE__SCHEME="none",
    )
    assert (loaded.tenants[0].name, loaded.sources[0].token) == ("acme", TOKEN)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("KYB_STREAM_KAFKA__PARTITIONS", "many", "kafka.partitions: should be a valid integer"),
        ("KYB_STREAM_KAFKA__PARTITONS", "8", "kafka.partitons: is not a known key"),
        ("KYB_STREAM_SOURCES__0__TOKEN", "s3cret", "sources[0].token: must match"),
        ("KYB_STREAM_SOURCES__0__ALLOW", '["s3cret/8"', "sources[0].allow: should be a valid tuple"),
        ("KYB_STREAM_SOURCES", '[{"name": "kyb", "token": "s3cret"}]', "sources[0].kind: is missing"),
        ("KYB_STREAM_SOURCES__7__TOKEN", "s3cret", "expected an index from 0 to 1 in place of '7'"),
        ("KYB_STREAM_SOURCES__FIRST__TOKEN", "s3cret", "expected an index from 0 to 1 in place of 'first'"),
        ("KYB_STREAM_TENANTS__0__CASE_TOKEN_KEYS__5", "s3cret", "expected an index from 0 to 1"),
        ("KYB_STREAM_TENANTS__0__NAME__DEEPER", "s3cret", "tenants.0.name is a single value and has no keys"),
        ("KYB_STREAM_TENANTS__0__NAME__DEEPER__STILL", "s3cret", "tenants.0.name is a single value and has no keys"),
    ],
)
def test_an_error_of_the_environment_names_the_variable(load: Load, name: str, value: str, sentence: str) -> None:
    """Not the file, where the value is not."""
    assert refusal(load, TENANT + SOURCE, **{name: value}).startswith(f"{name}: {sentence}")


def test_secrets_come_in_clear_from_the_environment_or_from_a_file(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`env:NAME` and `file:PATH`; a file's last line break is not part of the secret."""
    monkeypatch.setenv("A_SECRET_OF_OURS", "from-the-environment-16")
    (tmp_path / "secret").write_bytes(b"from-a-file-of-16-bytes\r\n")
    text = TENANT.replace(PSEUDONYM_KEY, "env:A_SECRET_OF_OURS").replace(CASE_KEY, f"file:{tmp_path / 'secret'}")
    (tenant,) = load(text).tenants
    assert tenant.pseudonym_key.reveal() == b"from-the-environment-16"
    assert tenant.case_token_keys[0].reveal_text() == "from-a-file-of-16-bytes"


def test_a_secret_that_cannot_be_had_is_named_by_its_place(load: Load, tmp_path: Path) -> None:
    """The variable or the file, and the key that names it."""
    text = TENANT.replace(PSEUDONYM_KEY, "env:NO_SUCH_VARIABLE_OF_OURS")
    assert "tenants[0].pseudonym_key: names the environment variable NO_SUCH_VARIABLE_OF_OURS, which" in refusal(load, text)
    text = TENANT.replace(PSEUDONYM_KEY, f"file:{tmp_path / 'none'}")
    assert f"tenants[0].pseudonym_key: names the file {tmp_path / 'none'}, which cannot be read" in refusal(load, text)


def test_nothing_of_a_secret_is_ever_shown(load: Load) -> None:
    """`repr`, `str` and JSON of settings hide tokens, keys, passwords and signature secrets."""
    loaded = load(
        '[clickhouse]\npassword = "s3cret-of-clickhouse"\n[kafka]\nsasl_password = "s3cret-of-kafka"\n'
        + TENANT
        + SOURCE
        + 'signature = { scheme = "hmac", secrets = ["s3cret-of-signature"], header = "X-Signature" }'
    )
    shown = f"{loaded!r} {loaded} {loaded.sources[0]!r} {loaded.tenants!r} {loaded.clickhouse!r} {loaded.kafka!r}"
    assert not any(secret in shown for secret in (TOKEN, PSEUDONYM_KEY, CASE_KEY, "s3cret"))
    assert loaded.clickhouse.password.reveal_text() == "s3cret-of-clickhouse"
    assert f"{Secret(b's3cret')} {Secret(b's3cret')!r}" == "Secret('…') Secret('…')"


def test_settings_cannot_be_changed_after_loading(load: Load) -> None:
    """One configuration, the same for everybody who holds it."""
    with pytest.raises(ValueError, match="frozen"):
        load().kafka.partitions = 3


names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.booleans() | st.integers(-(2**63), 2**63 - 1)
values = plain | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.text(max_size=5), max_size=3)
tables = st.dictionaries(names, values, max_size=4)


arrays = st.lists(tables, min_size=1, max_size=3)
sections = st.dictionaries(names, values | arrays, max_size=4)


@given(st.dictionaries(names, sections | arrays, max_size=4))
@settings(max_examples=80, deadline=None)
def test_rendered_toml_reads_back(configuration: dict[str, object]) -> None:
    """Whatever we write for `dev`, any TOML reader reads as it was meant."""
    assert tomllib.loads(render_toml(configuration)) == configuration


def test_a_configuration_we_render_loads(load: Load) -> None:
    """With tables, arrays of tables and secrets that hold quotes, backslashes and every kind of character."""
    odd = 'quote " backslash \\ line \n DEL \x7f'
    text = render_toml(
        {
            "kafka": {"partitions": 2},
            "tenants": [{"name": "acme", "pseudonym_key": odd, "case_token_keys": [CASE_KEY]}],
            "sources": [{"name": "kyb", "kind": "kyb-service", "tenant": "acme", "token": TOKEN}],
        }
    )
    loaded = load(text)
    assert (loaded.kafka.partitions, loaded.tenants[0].pseudonym_key.reveal_text()) == (2, odd)
