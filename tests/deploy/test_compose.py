"""docker-compose.yml and the Dockerfile, as far as they can be checked without a container engine."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.specifiers import SpecifierSet

from deploy.embedded.apache_kafka import KAFKA_VERSION
from kybstream.cli.main import COMMANDS
from kybstream.errors import ConfigurationError
from kybstream.health import HealthPages, serve_health
from kybstream.settings import load_settings
from tests.deploy.compose_file import (
    COMPOSE_FILE,
    CONFIG_FILE,
    CONFIG_TARGET,
    DOCKERFILE,
    GUIDE,
    ROOT,
    MissingVariableError,
    interpolate,
    read_services,
    required_variables,
    seconds,
)

COMPONENTS = ("migrate", "ingress", "worker", "sink")
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+(\.\d+){2,}[a-z0-9.-]*")
SECRETS = {
    "BODY_KEY": base64.b64encode(b"key-encryption-key-of-the-tests!").decode(),
    "CLICKHOUSE_PASSWORD": "clickhouse-password-for-tests",
    "PSEUDONYM_KEY": "pseudonym-key-for-tests",
    "CASE_TOKEN_KEY": "case-token-key-for-tests",
    "KYB_SOURCE_TOKEN": "kyb-source-token-for-tests",
    "KYC_SOURCE_TOKEN": "kyc-source-token-for-tests",
}


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    """The services, with all secrets set."""
    return read_services(SECRETS)


def schema_errors(text: str) -> list[str]:
    """What the compose specification's own JSON schema finds in a file; check-jsonschema ships the schema.

    The file is read from the package without importing it: its command line wants another click than Faust allows.
    """
    schema = distribution("check-jsonschema").locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    validator = Draft202012Validator(json.loads(Path(str(schema)).read_text(encoding="utf-8")))
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


def dockerfile(instruction: str) -> list[str]:
    """The arguments of each use of an instruction; continued lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{instruction} ")]


def pyproject() -> dict[str, Any]:
    """The tables of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_file_follows_the_compose_specification() -> None:
    """Its JSON schema accepts the file."""
    assert schema_errors(COMPOSE_FILE.read_text(encoding="utf-8")) == []


def test_the_schema_finds_a_misspelt_key() -> None:
    """The check above is worth something: one wrong letter and it fails."""
    text = COMPOSE_FILE.read_text(encoding="utf-8").replace("stop_grace_period", "stop_grace_perod")
    assert any("stop_grace_perod" in error for error in schema_errors(text))


def test_all_parts_of_the_stack_are_there(services: dict[str, dict[str, Any]]) -> None:
    """Two servers, the migration, three components."""
    assert set(services) == {"kafka", "clickhouse", *COMPONENTS}


def test_every_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    """A full version each; Kafka's is the tested one, ours is the project's, Python's a supported one."""
    images = {name: service["image"] for name, service in services.items()}
    bases = dockerfile("FROM")
    for image in [*images.values(), *(base.split()[0] for base in bases)]:
        assert PINNED.fullmatch(image), image
    assert images["kafka"] == f"apache/kafka:{KAFKA_VERSION}"
    assert {images[name] for name in COMPONENTS} == {f"kyb-stream:{pyproject()['project']['version']}"}
    pythons = {base.split()[0] for base in bases}
    assert len(pythons) == 1, "what is built with one Python runs on another"
    version = pythons.pop().removeprefix("python:").split("-")[0]
    assert version in SpecifierSet(pyproject()["project"]["requires-python"])


def test_the_dockerfile_uses_the_uv_of_the_makefile() -> None:
    """One version of uv reads the lock everywhere."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert found
    assert dockerfile("ARG") == [f"UV_VERSION={found[1]}"]


def test_the_build_has_what_it_copies_and_no_more() -> None:
    """Each file that the Dockerfile copies exists and gets past .dockerignore; `.env` and others do not."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copies = [words.split()[:-1] for words in dockerfile("COPY") if not words.startswith("--from")]
    copied = {source.rstrip("/") for sources in copies for source in sources}
    assert copied == allowed
    missing = {source for source in copied if not (ROOT / source).exists()}
    assert not missing
    assert not any(fnmatch(name, rule) for name in (".env", ".git", "data", ".venv") for rule in allowed)


def test_the_image_holds_every_package_of_the_project() -> None:
    """A new folder of code must be copied, too."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert {f"{name}/ {name}/" for name in packages["packages"]} <= set(dockerfile("COPY"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_runs_its_own_command(services: dict[str, dict[str, Any]], name: str) -> None:
    """`kyb-stream <component> --config …`, with the file that is mounted."""
    service = services[name]
    assert service["command"][:4] == ["kyb-stream", name, "--config", CONFIG_TARGET]
    assert name in COMMANDS
    mounts = {mount["target"]: mount for mount in service["volumes"] if isinstance(mount, dict)}
    assert (ROOT / mounts[CONFIG_TARGET]["source"]).samefile(CONFIG_FILE)
    assert mounts[CONFIG_TARGET]["read_only"]


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_accepts_its_environment(services: dict[str, dict[str, Any]], name: str) -> None:
    """Every KYB_STREAM_ variable is a setting, and says what is meant."""
    environment = services[name]["environment"]
    assert {key for key in environment if not key.startswith("KYB_STREAM_")} == set()
    assert environment["KYB_STREAM_CONFIG"] == CONFIG_TARGET
    settings = load_settings(CONFIG_FILE, environment)
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.clickhouse.url == "http://clickhouse:8123"
    assert settings.clickhouse.username == services["clickhouse"]["environment"]["CLICKHOUSE_USER"]
    assert settings.clickhouse.password.reveal_text() == SECRETS["CLICKHOUSE_PASSWORD"]
    tokens = {source.kind: source.token for source in settings.sources}
    assert tokens == {"kyb-service": SECRETS["KYB_SOURCE_TOKEN"], "kyc-registration": SECRETS["KYC_SOURCE_TOKEN"]}
    tenant = settings.tenants[0]
    assert tenant.pseudonym_key.reveal_text() == SECRETS["PSEUDONYM_KEY"]
    assert [key.reveal_text() for key in tenant.case_token_keys] == [SECRETS["CASE_TOKEN_KEY"]]
    keys = {key.id: base64.b64encode(key.key.reveal()).decode() for key in settings.encryption.keys}
    assert (keys, settings.encryption.required) == ({"k1": SECRETS["BODY_KEY"]}, True)


def test_the_doors_are_where_the_other_side_looks(services: dict[str, dict[str, Any]]) -> None:
    """The ingress listens on what is published, on loopback only; the worker's state is on its volume; nothing else is open."""
    settings = load_settings(CONFIG_FILE, services["ingress"]["environment"])
    assert (settings.ingress.host, settings.ingress.port) == ("0.0.0.0", 8080)
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"ingress": ["127.0.0.1:8080:8080"]}
    assert "http://127.0.0.1:8080/" in services["ingress"]["healthcheck"]["test"][-1]
    data_dir = load_settings(CONFIG_FILE, services["worker"]["environment"]).worker.data_dir
    assert f"worker-state:{data_dir}" in services["worker"]["volumes"]
    spool_dir = load_settings(CONFIG_FILE, services["ingress"]["environment"]).ingress.spool_dir
    assert spool_dir == f"{data_dir}/spool"
    assert f"ingress-spool:{data_dir}" in services["ingress"]["volumes"]
    assert any(f"install --directory --owner 10001 --group 10001 --mode 0750 {data_dir}" in run for run in dockerfile("RUN"))


def test_services_start_in_order(services: dict[str, dict[str, Any]]) -> None:
    """Migration when both servers are healthy; components when the migration is done."""
    assert services["migrate"]["depends_on"] == {
        "kafka": {"condition": "service_healthy"},
        "clickhouse": {"condition": "service_healthy"},
    }
    for name in ("ingress", "worker", "sink"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_what_runs_on_is_watched_restarted_and_stopped_in_peace(services: dict[str, dict[str, Any]]) -> None:
    """A health check, a restart policy, time to stop (longer than the application's own limits) and limited logs."""
    for name, service in services.items():
        assert service["logging"]["options"]["max-size"]
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert service["restart"] == "unless-stopped"
        assert seconds(service["stop_grace_period"]) >= 30


@pytest.mark.parametrize("failing", ["/healthz", "/readyz", None])
@pytest.mark.parametrize("name", ["ingress", "worker", "sink"])
async def test_a_component_that_is_stuck_or_not_ready_is_not_healthy(
    services: dict[str, dict[str, Any]], name: str, failing: str | None
) -> None:
    """The health check asks both pages, on the port that the component answers on, and fails with either."""
    settings = load_settings(CONFIG_FILE, services[name]["environment"])
    asked_for = {"ingress": settings.ingress.port, "worker": settings.worker.health_port, "sink": settings.sink.health_port}
    pages = HealthPages(lambda: "x" if failing == "/healthz" else None, lambda: "x" if failing == "/readyz" else None, bytes)
    async with serve_health(pages, name, "127.0.0.1", 0) as port:
        *command, script = services[name]["healthcheck"]["test"][1:]
        assert f":{asked_for[name]}/" in script
        script = script.replace(f":{asked_for[name]}/", f":{port}/")
        process = await asyncio.create_subprocess_exec(sys.executable, *command[1:], script, stderr=asyncio.subprocess.DEVNULL)
        assert await process.wait() == (0 if failing is None else 1)


def test_volumes_hold_all_state(services: dict[str, dict[str, Any]]) -> None:
    """Each named volume is declared, and used once."""
    declared = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))["volumes"]
    used = [mount.split(":")[0] for service in services.values() for mount in service["volumes"] if isinstance(mount, str)]
    assert sorted(used) == sorted(declared) == ["clickhouse-data", "ingress-spool", "kafka-data", "worker-state"]
    assert f"kafka-data:{services['kafka']['environment']['KAFKA_LOG_DIRS']}" in services["kafka"]["volumes"]
    assert len(base64.urlsafe_b64decode(services["kafka"]["environment"]["CLUSTER_ID"] + "==")) == 16


@pytest.mark.parametrize("name", COMPONENTS)
def test_our_containers_can_do_little(services: dict[str, dict[str, Any]], name: str) -> None:
    """No root, no capabilities, no writable root; the user is the image's."""
    service = services[name]
    assert service["user"] == "10001:10001" == dockerfile("USER")[-1]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(SECRETS))
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_secret_is_named(name: str, value: str | None) -> None:
    """Unset or empty, Compose refuses to start, and names the variable and the page that helps."""
    given = {key: secret for key, secret in SECRETS.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(MissingVariableError, match=rf"^{name}: make \.env first, as docs/how-to/docker-compose\.md says"):
        read_services(given)
    assert GUIDE.is_file()


def test_every_secret_of_the_application_is_asked_for(services: dict[str, dict[str, Any]]) -> None:
    """The mounted file holds none: without the variables it is refused."""
    assert required_variables() == set(SECRETS)
    for name in ("ENCRYPTION__KEYS__0__KEY", "PSEUDONYM_KEY", "CASE_TOKEN_KEYS__0", "TOKEN"):
        environment = {key: value for key, value in services["sink"]["environment"].items() if not key.endswith(name)}
        with pytest.raises(ConfigurationError, match="is missing"):
            load_settings(CONFIG_FILE, environment)


def test_the_guides_first_command_makes_all_secrets(tmp_path: Path) -> None:
    """It writes a `.env` for its owner only that starts the stack, and leaves one that is there alone."""
    block = re.search(r"```sh\n(test -e \.env.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    command = ["bash", "-c", block[1].replace("python3", sys.executable)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    file = tmp_path / ".env"
    assert file.stat().st_mode & 0o077 == 0
    made = dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())
    assert set(made) == set(SECRETS)
    assert len(set(made.values())) == len(SECRETS)
    load_settings(CONFIG_FILE, read_services(made)["ingress"]["environment"])
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    assert dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines()) == made


def test_the_guide_names_what_exists(services: dict[str, dict[str, Any]]) -> None:
    """Commands, services and volumes in the guide are ours."""
    text = GUIDE.read_text(encoding="utf-8")
    commands = set(re.findall(r"kyb-stream ([a-z]+[a-z-]*)", "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))))
    assert commands <= set(COMMANDS)
    assert set(re.findall(r"docker compose exec (?:-T )?(\w+)", text)) <= set(services)
    assert set(re.findall(r"kyb-stream_([a-z-]+):", text)) <= {"clickhouse-data", "kafka-data", "worker-state"}


def test_variables_are_replaced_as_compose_does() -> None:
    """Value, default where it is empty or unset, an escaped dollar."""
    assert interpolate("a ${X} b", {"X": "1"}) == "a 1 b"
    assert interpolate("${X:-2}", {}) == interpolate("${X:-2}", {"X": ""}) == "2"
    assert interpolate("${X:?no}", {"X": "3"}) == "3"
    assert interpolate("$${X}", {"X": "4"}) == "${X}"
