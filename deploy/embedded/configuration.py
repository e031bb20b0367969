"""The configuration that `dev` and `demo` write for themselves: two sources, random tokens and keys, everything on loopback."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from kybstream.settings import render_toml
from kybstream.settings.values import KEY_BYTES

HOST = "127.0.0.1"
TENANT = "acme"
KYB_SOURCE = "kyb"
KYC_SOURCE = "kyc"
BODY_KEY = "k1"
"""The name of the key that encrypts bodies."""


def new_configuration(*, bootstrap_servers: str, clickhouse_port: int, ingress_port: int) -> dict[str, object]:
    """A whole configuration with fresh random tokens and keys, as sections."""
    return {
        "kafka": {"bootstrap_servers": bootstrap_servers},
        "clickhouse": {"url": f"http://{HOST}:{clickhouse_port}", "password": secrets.token_urlsafe(24)},
        "ingress": {"host": HOST, "port": ingress_port},
        "encryption": {
            "keys": [{"id": BODY_KEY, "key": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}],
        },
        "tenants": [
            {
                "name": TENANT,
                "pseudonym_key": secrets.token_urlsafe(32),
                "case_token_keys": [secrets.token_urlsafe(32)],
            }
        ],
        "sources": [
            {"name": KYB_SOURCE, "kind": "kyb-service", "tenant": TENANT, "token": secrets.token_urlsafe(24)},
            {"name": KYC_SOURCE, "kind": "kyc-registration", "tenant": TENANT, "token": secrets.token_urlsafe(24)},
        ],
    }


def keep_out_of_git(folder: Path) -> None:
    """Makes a folder with a .gitignore that keeps all in it out of a repository: it will hold keys.

    A folder that is there already is somebody's own, and stays as it is.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        return
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def write_configuration(path: Path, values: Mapping[str, object], *, comment: str) -> None:
    """Writes a configuration that only its owner can read: it holds tokens and keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"# {comment}\n\n{render_toml(values)}")
