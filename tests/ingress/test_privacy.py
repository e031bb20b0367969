from __future__ import annotations

import logging

import pytest
import structlog

from kybstream.telemetry import configure_logging
from tests.ingress.harness import KYB_TOKEN, KYC_TOKEN, SECRET, make_topics, running, settings_for, source

HIDDEN = {
    "token": KYB_TOKEN,
    "other token": KYC_TOKEN,
    "wrong token": "wrong-token-somebody-guessed",
    "case token": "c1.case-4711.macmacmacmac",
    "body": "Ada Lovelace",
    "secret": SECRET,
    "user": "0123456789abcdef0123456789abcdef",
    "header": "header-of-the-sender",
}


async def test_logs_hold_no_token_body_or_header(
    noida_broker: str, topic_prefix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At DEBUG, through 200s, every refusal, broken HTTP and an unforeseen exception: no line tells what it must not."""
    configure_logging(debug=True, console=False)
    try:
        signature = {"scheme": "hmac", "secrets": [SECRET], "header": "X-Sig"}
        signed = source("kyc", kind="kyc-registration", token=KYC_TOKEN, signature=signature)
        settings = settings_for(noida_broker, topic_prefix, [source(max_body_bytes=300), signed])
        await make_topics(settings.kafka)
        body = f'{{"name": "{HIDDEN["body"]}", "userNo": "{HIDDEN["user"]}"}}'.encode()
        kyb = f"/webhooks/kyb/{KYB_TOKEN}/{HIDDEN['case token']}"
        headers = {"X-Sig": HIDDEN["header"], "Content-Type": HIDDEN["header"]}
        async with running(settings) as ingress:
            assert (await ingress.post(kyb, body, headers)).status == 200
            assert (await ingress.post(f"/webhooks/kyc/{KYC_TOKEN}", body, headers)).status == 401
            assert (await ingress.post(f"/webhooks/kyb/{HIDDEN['wrong token']}", body, headers)).status == 404
            assert (await ingress.post(kyb, body * 10, headers)).status == 413
            await ingress.raw(f"{KYB_TOKEN} {HIDDEN['body']}\r\n{HIDDEN['header']}\r\n\r\n".encode())
            await ingress.raw(f"POST {kyb} HTTP/1.1\r\n{HIDDEN['header']} {HIDDEN['body']}\r\n\r\n".encode())

            def explode(*_: object) -> None:
                raise RuntimeError(f"with {HIDDEN['body']} in its message")

            monkeypatch.setattr("ingress.webhooks.identify_bytes", explode)
            failed = await ingress.post(kyb, body, headers)
            assert (failed.status, failed.headers["Retry-After"]) == (503, "10")
            assert await ingress.metric("kyb_ingress_unexpected_errors_total") == 1
            shown = (await ingress.request("GET", "/metrics")).body.decode()
    finally:
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)
        structlog.reset_defaults()
    lines = capsys.readouterr().err
    assert '"event": "webhook_failed"' in lines
    assert '"error": "RuntimeError"' in lines
    for what, hidden in HIDDEN.items():
        assert hidden not in lines, what
        assert hidden not in shown, what
