"""The load: wrk, a process of its own, sending prepared webhooks and telling rates and percentiles."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kybstream.errors import RunError

BODIES = 1_000
"""Different bodies, sent in turn: their services spread over all partitions."""

BODY_BYTES = 600
_MARK = "BENCH "

# `delay` makes each connection wait before its next request: an exponential pause, so that requests come at random moments.
_SCRIPT = """
local requests = {}
local next_one = 0
local pause = __PAUSE__

function init(args)
  math.randomseed(tonumber(tostring(requests):match("0x(%x+)"), 16) % 2147483647)
  next_one = math.random(#bodies)
  for i, each in ipairs(bodies) do
    local headers = {["Content-Type"] = "application/json", ["X-Signature"] = each[2]}
    requests[i] = wrk.format("POST", nil, headers, each[1])
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

__DELAY__

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "BENCH {\\"requests\\": %d, \\"microseconds\\": %d, \\"failed\\": %d, \\"refused\\": %d, " ..
    "\\"p50\\": %d, \\"p99\\": %d, \\"p999\\": %d}\\n",
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""
_DELAY = "function delay() return math.floor(-math.log(1 - math.random()) * pause + 0.5) end"


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw. Latencies in milliseconds.

    Attributes:
        per_second: Requests answered a second, whatever the answer.
        failed: Requests without an answer (refused or broken connections, timeouts).
        refused: Answers that were not 2xx.
    """

    per_second: float
    p50: float
    p99: float
    p999: float
    failed: int
    refused: int


def require_wrk() -> str:
    """Where wrk is.

    Raises:
        RunError: It is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise RunError("wrk is not installed", hint="`apt-get install wrk` (Debian, Ubuntu) or `brew install wrk` brings it.")
    return found


def signed_bodies(secret: bytes) -> list[tuple[str, str]]:
    """Bodies of 600 bytes as the KYB provider sends them, each of a service of its own, with their HMAC-SHA256 in hex."""
    bodies = []
    for _ in range(BODIES):
        content = {
            "service_id": secrets.token_hex(12),
            "type": "business_information",
            "status": "service_initiated",
            "message": "Service initiated",
            "company": {"name": "Example GmbH", "number": "HRB 1", "country": "DE"},
            "filler": "",
        }
        content["filler"] = "x" * (BODY_BYTES - len(json.dumps(content)))
        body = json.dumps(content)
        bodies.append((body, hmac.new(secret, body.encode(), hashlib.sha256).hexdigest()))
    return bodies


def run_wrk(
    url: str,
    bodies: Iterable[tuple[str, str]],
    scratch: Path,
    *,
    connections: int,
    seconds: float,
    pause_ms: float = 0.0,
) -> Load:
    """Sends the bodies in turn to `url`, over so many connections, for so long.

    Args:
        url: Where to.
        bodies: Body and signature.
        scratch: Where wrk's script is written.
        connections: Each has one request under way at a time.
        seconds: How long.
        pause_ms: The mean pause of a connection between an answer and the next request; 0: none.

    Raises:
        RunError: wrk failed.
    """
    table = "\n".join(f"  {{{json.dumps(body)}, {json.dumps(signature)}}}," for body, signature in bodies)
    script = scratch / "load.lua"
    steps = _SCRIPT.replace("__PAUSE__", str(pause_ms)).replace("__DELAY__", _DELAY if pause_ms else "")
    script.write_text(f"local bodies = {{\n{table}\n}}\n{steps}", encoding="utf-8")
    command = [require_wrk(), "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((each for each in done.stdout.splitlines() if each.startswith(_MARK)), None)
    if line is None:
        raise RunError(f"wrk failed with exit code {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}")
    seen = json.loads(line.removeprefix(_MARK))
    return Load(
        per_second=seen["requests"] / seen["microseconds"] * 1e6,
        p50=seen["p50"] / 1e3,
        p99=seen["p99"] / 1e3,
        p999=seen["p999"] / 1e3,
        failed=seen["failed"],
        refused=seen["refused"],
    )
