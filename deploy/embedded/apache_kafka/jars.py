"""Apache Kafka's jar files, fetched once by Maven into the user's cache: 93 files, 54 MB, some 10 s."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import structlog

from deploy.embedded.child_log import describe_exit, telling_line
from deploy.embedded.locks import wait_for_lock
from deploy.embedded.tether import tethered
from kybstream.errors import RunError

KAFKA_VERSION = "4.1.0"
JAVA_VERSION = 17
"""The oldest Java that runs Kafka 4 (its release notes: brokers need 17)."""

_POM = Path(__file__).with_name("pom.xml")
_FETCH_SECONDS = 600.0
_VERSION_SECONDS = 30.0

_log = structlog.get_logger(__name__)


class MissingToolError(RunError):
    """Java or Maven is not installed, or too old."""


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/kyb-stream`, or `~/.cache/kyb-stream`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kyb-stream"


def ensure_jars(cache_dir: Path | None = None) -> Path:
    """The folder with Kafka's jars, fetched if it is not there yet.

    The folder is there whole or not at all: it is filled under another name and renamed, by one process at a time. Callers
    that come meanwhile wait, and what a killed download left is removed by the next. Blocks the calling thread.

    Args:
        cache_dir: Where `kafka-<version>` lies or is made; `default_cache_dir()` if None.

    Raises:
        MissingToolError: It must be fetched, and Maven or Java is missing.
        RunError: Maven failed, say without a network; the message holds its reason.
    """
    cache = cache_dir or default_cache_dir()
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            f"Maven (mvn) is not installed: it fetches Apache Kafka {KAFKA_VERSION}",
            hint="apt-get install maven, brew install maven, or use --broker noida",
        )
    java_command()  # Maven's own complaint about a missing Java is not clear
    cache.mkdir(parents=True, exist_ok=True)
    with wait_for_lock(cache / f".{jars.name}.lock", wait_seconds=_FETCH_SECONDS, purpose="fetching Apache Kafka"):
        if not jars.is_dir():
            for left_over in cache.glob(f".{jars.name}.partial-*"):  # we hold the lock: nobody fills it any more
                shutil.rmtree(left_over, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{jars.name}.partial-", dir=cache))
            try:
                _fetch(maven, partial)
                partial.chmod(0o755)
                partial.rename(jars)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return jars


def java_command() -> str:
    """The `java` to run: of `JAVA_HOME` if set, else of the PATH.

    Raises:
        MissingToolError: There is none, or it is older than Java 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    hint = f"install Java {JAVA_VERSION} or newer (apt-get install openjdk-17-jre-headless), or use --broker noida"
    if java is None:
        where = f"in JAVA_HOME ({home})" if home else "on the PATH"
        raise MissingToolError(f"Java is not installed: there is no java command {where}", hint=hint)
    asked = subprocess.run(  # noqa: S603 - a program of the user's own PATH
        [java, "-version"], capture_output=True, text=True, check=False, timeout=_VERSION_SECONDS
    )
    found = re.search(r'version "(?:1\.)?(\d+)', asked.stderr)  # Java 8 calls itself "1.8.0_292"
    if found is None or int(found.group(1)) < JAVA_VERSION:
        version = found.group(1) if found else "unknown"
        raise MissingToolError(f"Java {JAVA_VERSION} or newer is needed, but {java} is version {version}", hint=hint)
    return java


def _fetch(maven: str, folder: Path) -> None:
    _log.info("kafka_fetch_started", version=KAFKA_VERSION)
    command = [
        maven,
        "--batch-mode",
        "--quiet",
        "--strict-checksums",
        f"--file={_POM}",
        f"-Dkafka.version={KAFKA_VERSION}",
        f"-DoutputDirectory={folder}",
        "-DincludeScope=runtime",
        "dependency:copy-dependencies",
    ]
    try:
        run = subprocess.run(  # noqa: S603 - a program of the user's own PATH
            tethered(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"Maven did not fetch Apache Kafka {KAFKA_VERSION} within {_FETCH_SECONDS:.0f} s") from None
    if run.returncode != 0:
        lines = [line.removeprefix("[ERROR]").strip() for line in run.stdout.splitlines() if "[ERROR]" in line]
        reason = lines[0] if lines else telling_line(run.stdout) or describe_exit(run.returncode)
        raise RunError(
            f"Maven could not fetch Apache Kafka {KAFKA_VERSION}: {reason[:300]}",
            hint="it needs Maven Central, or a mirror named in ~/.m2/settings.xml",
        )
    _log.info("kafka_fetched", version=KAFKA_VERSION, files=len(list(folder.iterdir())))
