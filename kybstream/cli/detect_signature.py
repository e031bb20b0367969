"""`kyb-stream detect-signature`."""

from __future__ import annotations

from pathlib import Path

import click

from ingress.signatures.candidates import CANDIDATES
from ingress.signatures.capture import parse_capture
from ingress.signatures.detect import Detection, Match, detect, path_prefixes
from ingress.signatures.verifier import SignedRequest
from kybstream.cli import options
from kybstream.cli.operator import SECRET_REFERENCES, secret_reference
from kybstream.errors import RunError, UsageError
from kybstream.settings import Secret, Settings, SourceSettings, load_settings
from schemas.providers.codings import TooLargeError, undo

MAX_CAPTURE_BYTES = 16 * 1024 * 1024

PLACEHOLDER = "env:SIGNING_SECRET"
"""Stands for a secret that is in the configuration already: how it was given there is not known any more."""


@click.command()
@click.argument("capture", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--source", "source_name", metavar="NAME", required=True, help="Whose request it is; its secrets are tried.")
@click.option(
    "--secret",
    "references",
    metavar="REF",
    multiple=True,
    help="A further secret, env:NAME or file:PATH; may be given several times.",
)
@click.option(
    "--path-prefix",
    "prefixes",
    metavar="TEXT",
    multiple=True,
    help="What a proxy of yours takes off the path before we see it; may be given several times.",
)
@options.config
def command(
    capture: Path, source_name: str, references: tuple[str, ...], prefixes: tuple[str, ...], config_path: Path | None
) -> None:
    """Find the scheme that signed a captured request, and print the setting for it.

    CAPTURE is a file with one HTTP request as it came over the wire: the request line (or the path alone), headers, an empty
    line, and the bytes of the body, unchanged.

    \b
        POST /webhooks/kyc/TOKEN HTTP/1.1
        Content-Type: application/json
        X-Signature: 5257a8...

    \b
        {"userNo": "..."}

    All schemes are tried with all settings that the request suggests and with each secret of the source. The age of the
    request is not looked at. Neither secrets nor the body are printed. Exit code 1: nothing matched.
    """  # noqa: D301 - click's mark for what is not to be wrapped
    settings = load_settings(config_path)
    source = _source(settings, source_name)
    secrets = _secrets(source, references)
    request = _read(capture, source)
    found = detect(source, request, secrets, path_prefixes(request, settings.ingress.base_url, prefixes))
    if not found.matches:
        _tell_what_was_tried(found, len(secrets))
        raise RunError(
            "no scheme gives this request's signature",
            hint="The secret may be another one, or the bytes are not those that were sent: docs/how-to/detect-signature.md.",
        )
    for match in found.matches:
        _tell(match)
    if len(found.matches) > 1:
        click.echo("# These agree on this request. Take the first, or try a capture that tells them apart.")


def _source(settings: Settings, name: str) -> SourceSettings:
    for source in settings.sources:
        if source.name == name:
            return source
    known = ", ".join(source.name for source in settings.sources) or "none"
    raise UsageError(f"no source is named {name}", hint=f"--source NAME, one of: {known}")


def _secrets(source: SourceSettings, references: tuple[str, ...]) -> dict[str, Secret]:
    """Every secret by the name it is called in the output: never itself."""
    secrets = {f"secret {number} of the source": secret for number, secret in enumerate(source.signature.secrets, start=1)}
    for reference in references:
        secrets[reference] = secret_reference("--secret", reference)
    empty = next((name for name, secret in secrets.items() if not secret.reveal()), None)
    if empty is not None:
        raise UsageError(f"{empty} is empty")
    if not secrets:
        raise UsageError(f"the source {source.name} has no secrets to try", hint="--secret env:NAME or --secret file:PATH")
    return secrets


def _read(capture: Path, source: SourceSettings) -> SignedRequest:
    try:
        with capture.open("rb") as stream:
            raw = stream.read(MAX_CAPTURE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{capture}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_CAPTURE_BYTES:
        raise UsageError(f"{capture}: is larger than any webhook that is taken")
    request = parse_capture(raw)
    try:
        encoding = ",".join(request.headers.getall("Content-Encoding", []))
        undone = undo(request.body, encoding, max_bytes=source.max_body_bytes)
    except TooLargeError:
        raise UsageError(f"{capture}: its body is larger than the source takes (max_body_bytes)") from None
    return SignedRequest(request.method, request.path, request.headers, request.body if undone is None else undone)


def _tell(match: Match) -> None:
    given = match.secret.startswith(SECRET_REFERENCES)
    click.echo(f"# {match.scheme} matches, with {'the secret ' if given else ''}{match.secret}.")
    if not given:
        click.echo(f"# Put that secret in place of {PLACEHOLDER}.")
    if match.timestamped:
        click.echo("# The age of the capture was not looked at. Live requests may be 300 s off, or tolerance_seconds.")
    if match.scheme == "alchemy-sha1":
        click.echo("# This scheme does not cover the body.")
    click.echo(match.toml(match.secret if given else PLACEHOLDER))


def _tell_what_was_tried(found: Detection, secrets: int) -> None:
    click.echo(f"tried, with {secrets} {'secret' if secrets == 1 else 'secrets'} each:")
    for scheme, count in found.tried.items():
        _, needed = CANDIDATES[scheme]
        done = f"{count} {'combination' if count == 1 else 'combinations'} of settings"
        click.echo(f"  {scheme:<18} {done if count else f'nothing: it needs {needed}'}")
