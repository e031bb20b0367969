"""`kyb-stream detect-signature`: finds what signed a capture, by the verifiers of the ingress, and tells no secret."""

from __future__ import annotations

import base64
import gzip
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ingress.signatures.build import SCHEMES, build_verifier
from ingress.signatures.candidates import CANDIDATES
from ingress.signatures.capture import parse_capture
from ingress.signatures.detect import detect, path_prefixes
from ingress.signatures.verifier import SignedRequest
from kybstream.cli.detect_signature import PLACEHOLDER
from kybstream.cli.main import cli
from kybstream.errors import KybStreamError, UsageError
from kybstream.settings import Secret, SourceSettings
from tests.ingress.dialects import dialects
from tests.ingress.signing import BODY, MILLIS, NEW, NOW, OLD, PATH, SIGNERS, SORTED, TS, b64, mac


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    exit_code: int
    output: str
    error: KybStreamError | None

    @property
    def signatures(self) -> list[dict[str, Any]]:
        """The settings it printed, parsed as the configuration would be."""
        return [tomllib.loads(line)["signature"] for line in self.output.splitlines() if line.startswith("signature = ")]


class Folder:
    """A folder with a configuration whose source knows two secrets, the matching one second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.configure([OLD.decode(), NEW.decode()])

    def configure(self, secrets: list[str]) -> None:
        """Writes the configuration."""
        self.config.write_text(
            '[ingress]\npublic_url = "https://hooks.example/api"\n'
            f'[[tenants]]\nname = "acme"\npseudonym_key = "{"k" * 32}"\ncase_token_keys = ["{"c" * 32}"]\n'
            f'[[sources]]\nname = "kyc"\nkind = "kyc-registration"\ntenant = "acme"\ntoken = "{"t" * 22}"\n'
            f'signature = {{ scheme = "none", secrets = {json.dumps(secrets)} }}\n'
        )

    def capture(self, headers: Mapping[str, str], body: bytes = BODY, *, line: str = f"POST {PATH} HTTP/1.1") -> Path:
        """A capture of a request."""
        path = self.path / "capture"
        lines = [line, "Host: hooks.example", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        path.write_bytes("\r\n".join([*lines, "", ""]).encode() + body)
        return path

    def run(self, capture: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Runs the command."""
        given = ["detect-signature", "--source", "kyc", "--config", str(self.config), *arguments, str(capture)]
        result = CliRunner().invoke(cli, given, env=dict(env or {}))
        error = result.exception if isinstance(result.exception, KybStreamError) else None
        assert result.exception is error or isinstance(result.exception, SystemExit), result.exception
        return Outcome(result.exit_code if error is None else error.exit_code, result.output, error)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A configured folder."""
    return Folder(tmp_path)


def verifies(signature: dict[str, Any], request: SignedRequest) -> bool:
    """Whether a source with the printed setting takes the request, with the secret put in and the age left out."""
    setting = {**signature, "secrets": [NEW.decode()]}
    for tolerance in ({"tolerance_seconds": 1e18}, {}):
        source = {"name": "kyc", "kind": "kyc-registration", "tenant": "acme", "token": "t" * 22}
        try:
            verifier = build_verifier(SourceSettings.model_validate({**source, "signature": {**setting, **tolerance}}))
        except KybStreamError:
            continue
        return verifier.verify(request, NOW).accepted
    return False


def test_every_scheme_can_be_found() -> None:
    """No scheme is left out but `none`, which signs nothing."""
    assert CANDIDATES.keys() == SCHEMES.keys() - {"none"}


@pytest.mark.parametrize("scheme", SIGNERS)
def test_each_scheme_is_found_with_its_settings(folder: Folder, scheme: str) -> None:
    """The setting that is printed accepts the capture, names the secret that did it, and is plain."""
    sign, extra = SIGNERS[scheme]
    capture = folder.capture(sign(NEW))
    outcome = folder.run(capture)
    assert outcome.exit_code == 0, outcome
    expected = {"scheme": scheme, **extra, "secrets": [PLACEHOLDER]}
    expected.pop("app_id", None)  # any; the signature covers it
    assert outcome.signatures == [expected]
    assert verifies(outcome.signatures[0], parse_capture(capture.read_bytes()))
    assert "secret 2 of the source" in outcome.output
    assert ("The age of the capture was not looked at" in outcome.output) == (scheme not in {"hmac", "sha256-concat"})


@pytest.mark.parametrize("name", dialects())
def test_each_setting_is_found(folder: Folder, name: str) -> None:
    """Header names, hash, encoding, prefix, separators, fields, joiner, path prefix, unsigned fields and empties."""
    headers, body, expected = dialects()[name]
    capture = folder.capture(headers, body)
    outcome = folder.run(capture)
    assert outcome.exit_code == 0, outcome
    first = outcome.signatures[0]
    assert {key: value for key, value in first.items() if key not in {"scheme", "secrets"}} == expected
    assert verifies(first, parse_capture(capture.read_bytes()))


def test_a_prefix_can_be_given(folder: Folder) -> None:
    """What no header tells, the option does."""
    signature = b64(mac(NEW, f"{TS}POST/hidden{PATH}".encode() + BODY))
    capture = folder.capture({"ach-access-timestamp": TS, "ach-access-sign": signature})
    assert folder.run(capture).exit_code == 1
    (found,) = folder.run(capture, "--path-prefix", "/hidden").signatures
    assert found["path_prefix"] == "/hidden"


def test_secrets_are_tried_by_reference_and_never_shown(folder: Folder) -> None:
    """--secret env:NAME and file:PATH are printed as such; a secret, token, body or signature never is, match or not."""
    folder.configure([])
    (folder.path / "key").write_bytes(NEW + b"\n")
    capture = folder.capture(SIGNERS["hmac"][0](NEW))
    references = [("env:SOME_KEY", {"SOME_KEY": NEW.decode()}), (f"file:{folder.path}/key", {})]
    for reference, env in references:
        outcome = folder.run(capture, "--secret", "env:WRONG", "--secret", reference, env={"WRONG": OLD.decode(), **env})
        assert [each["secrets"] for each in outcome.signatures] == [[reference]]
        assert PLACEHOLDER not in outcome.output
    wrong = folder.run(capture, "--secret", "env:WRONG", env={"WRONG": OLD.decode()})
    literal = folder.run(capture, "--secret", NEW.decode())
    assert (wrong.exit_code, literal.exit_code) == (1, 2)
    for told in (outcome, wrong, literal):
        shown = told.output + repr(told.error)
        for hidden in (NEW.decode(), OLD.decode(), "1990-01-01", "u1", mac(NEW, BODY).hex(), "c1.a.b", "t" * 22):
            assert hidden not in shown


def test_without_a_match_it_says_what_was_tried(folder: Folder) -> None:
    """Exit code 1, every scheme in a line: how many combinations, or what it needs."""
    outcome = folder.run(folder.capture({"X-Sig": mac(b"another secret of somebody", BODY).hex(), "X-Time": TS}))
    assert outcome.exit_code == 1
    lines = dict(line.split(maxsplit=1) for line in outcome.output.splitlines()[1:])
    assert lines.keys() == CANDIDATES.keys()
    assert lines["hmac"] == "1 combination of settings"
    assert lines["sha256-concat"] == "2 combinations of settings"
    assert lines["alchemy-sha1"].startswith("nothing: it needs three headers")


def test_schemes_that_agree_are_all_told(folder: Folder) -> None:
    """A body that is sorted already fits two schemes: both are printed, and that they agree."""
    sign, _ = SIGNERS["alchemy-raw"]
    outcome = folder.run(folder.capture(sign(NEW, SORTED), SORTED))
    assert {each["scheme"] for each in outcome.signatures} == {"alchemy-raw", "alchemy-sorted"}
    assert "These agree" in outcome.output


@pytest.mark.parametrize("value", [rb'"ABC\ud83d"', b'"\xff"', b"NaN"], ids=["half a pair", "no UTF-8", "no number"])
def test_a_body_with_a_value_that_cannot_be_read_is_tried(folder: Folder, value: bytes) -> None:
    """As the ingress does."""
    body = b'{"b":%b,"a":1}' % value
    outcome = folder.run(folder.capture(SIGNERS["alchemy-sorted"][0](NEW, b'{"a":1,"b":%b}' % value), body))
    assert [each["scheme"] for each in outcome.signatures] == ["alchemy-sorted"]


def test_encoded_and_chunked_bodies_are_read_as_the_ingress_reads_them(folder: Folder) -> None:
    """Gzip is undone; chunks that the capture shows are joined; a line end behind Content-Length does no harm."""
    headers = SIGNERS["hmac"][0](NEW)
    packed = gzip.compress(BODY)
    chunked = b"%x;note=1\r\n%b\r\n%X\r\n%b\r\n0\r\n\r\n" % (20, BODY[:20], len(BODY) - 20, BODY[20:])
    for more, body in (
        ({"Content-Encoding": "gzip", "Content-Length": str(len(packed))}, packed),
        ({"Content-Encoding": "gzip", "Content-Length": "5"}, BODY),
        ({"Transfer-Encoding": "chunked"}, chunked),
        ({"Transfer-Encoding": "chunked"}, BODY),
        ({"Content-Length": str(len(BODY))}, BODY + b"\n"),
    ):
        assert folder.run(folder.capture({**headers, **more}, body)).exit_code == 0, more


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /a HTTP/1.1\r\nHost: x\r\n\r\n{}",
        b"POST /a HTTP/1.1\nHost:x\n\n{}",
        b"post https://x/a HTTP/2\nHost: \t x \n\n{}",
        b"/a\nhOST: x\n\n{}",
        b"POST /a\nHost: x\r\n\r\n{}",
    ],
)
def test_captures_of_several_tools_are_read(raw: bytes) -> None:
    """LF or CRLF, path alone or request line or URL."""
    request = parse_capture(raw)
    assert (request.method, request.path, request.headers["Host"], request.body) == ("POST", "/a", "x", b"{}")


@pytest.mark.parametrize(
    ("raw", "expectation"),
    [
        (b"", "no empty line"),
        (b"POST /a HTTP/1.1\nHost: x\n", "no empty line"),
        (b"\n{}", "line 1 is no request line"),
        (b"Host: x\n\n{}", "line 1 is no request line"),
        (b"POST /a b HTTP/1.1\n\n{}", "line 1 is no request line"),
        (b'POST /a HTTP/1.1\n{"ssn": 1}\n\n', "line 2 is no header"),
        (b"POST /a HTTP/1.1\nA: b\n folded\n\n", "line 3 is no header"),
        (b"POST /a HTTP/1.1\nContent-Length: 3\n\n{}", "its body has 2 bytes, its Content-Length says 3"),
        (b"POST /a HTTP/1.1\nContent-Length: x\n\n{}", "its Content-Length is no number"),
    ],
)
def test_bad_captures_are_named_by_line(folder: Folder, raw: bytes, expectation: str) -> None:
    """Exit code 2 and one sentence that names the line and holds nothing of it."""
    path = folder.path / "bad"
    path.write_bytes(raw)
    outcome = folder.run(path)
    assert outcome.exit_code == 2
    assert outcome.error is not None
    assert expectation in outcome.error.message
    assert "ssn" not in outcome.error.message + str(outcome.error.hint)


def test_wrong_usage_is_told(folder: Folder) -> None:
    """No file, no such source, no secret, an empty one, a variable that is not set: exit code 2."""
    capture = folder.capture(SIGNERS["hmac"][0](NEW))
    assert folder.run(folder.path / "none").exit_code == 2
    other = folder.run(capture, "--source", "other")
    assert other.error is not None
    assert (other.exit_code, other.error.hint) == (2, "--source NAME, one of: kyc")
    assert folder.run(capture, "--secret", "env:NOT_SET_ANYWHERE").exit_code == 2
    assert folder.run(capture, "--secret", "env:EMPTY", env={"EMPTY": ""}).exit_code == 2
    folder.configure([])
    assert folder.run(capture).exit_code == 2
    bomb = gzip.compress(bytes(2 * 1024 * 1024))
    assert folder.run(folder.capture({"Content-Encoding": "gzip"}, bomb), "--secret", "env:K", env={"K": "x"}).exit_code == 2


HEADER_NAMES = ["X-Sig", "webhook-id", "webhook-timestamp", "webhook-signature", "sign"]
HEADER_TEXT = st.binary(max_size=70) | st.sampled_from(
    [TS.encode(), MILLIS.encode(), b"0" * 64, b"0" * 40, base64.b64encode(bytes(32)), b"t=1767323045,v1=" + b"0" * 64, b"v1,x"]
)


@given(
    st.lists(st.tuples(st.sampled_from(HEADER_NAMES), HEADER_TEXT)),
    st.binary(max_size=60) | st.sampled_from([b'{"\\ud800":"", "dob":null}', b"[" * 5000, b'{"a":{"b":NaN}}']),
)
def test_no_capture_breaks_it(headers: list[tuple[str, bytes]], body: bytes) -> None:
    """Any bytes: a capture that cannot be read, or a result that finds nothing and can be printed."""
    raw = b"POST /a HTTP/1.1\n" + b"".join(name.encode() + b": " + value + b"\n" for name, value in headers) + b"\n" + body
    try:
        request = parse_capture(raw)
    except UsageError:
        return
    source = SourceSettings.model_validate({"name": "x", "kind": "kyb-service", "tenant": "x", "token": "t" * 22})
    secrets = {"one": Secret(NEW), "whsec": Secret(b"whsec_$$$")}
    found = detect(source, request, secrets, path_prefixes(request, "https://x", ["/é"]))
    assert found.matches == ()
    assert found.tried.keys() == CANDIDATES.keys()
