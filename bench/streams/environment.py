"""The peer's own environment: quixstreams is no dependency of ours, so it is installed beside, once, in the user's cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from deploy.embedded.apache_kafka.jars import default_cache_dir
from kybstream.errors import RunError

QUIXSTREAMS_VERSION = "3.28.1"
_INSTALL_SECONDS = 300.0


def peer_python(cache: Path | None = None) -> Path:
    """The Python that can import quixstreams; made at the first call.

    Raises:
        RunError: uv is missing, or the package cannot be installed.
    """
    folder = (cache or default_cache_dir()) / f"bench-quixstreams-{QUIXSTREAMS_VERSION}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists() and python.exists():
        return python
    uv = Path(sys.executable).with_name("uv")
    found = str(uv) if uv.exists() else shutil.which("uv")
    if found is None:
        raise RunError("uv is missing", hint="make install")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([found, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    _run([found, "pip", "install", "--quiet", "--python", str(python), f"quixstreams=={QUIXSTREAMS_VERSION}"])
    (folder / "complete").touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"quixstreams was not installed within {_INSTALL_SECONDS:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RunError(f"quixstreams cannot be installed: {last[:200]}")
