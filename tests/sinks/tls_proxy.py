"""An HTTPS server before ClickHouse, with a certificate made for the test, that asks for a user and a password."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.embedded.ports import free_port

USER, PASSWORD = "sink", "a password with ümläuts"
_REFUSAL = "Code: 516. DB::Exception: sink: Authentication failed. (AUTHENTICATION_FAILED)"


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ClickHouse of the tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "clickhouse.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@asynccontextmanager
async def tls_proxy(target: str, certificate: Path) -> AsyncIterator[str]:
    """The URL of a proxy that runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = free_port()
    allowed = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.BaseRequest) -> web.StreamResponse:
            if request.headers.get("Authorization") != allowed:
                return web.Response(status=403, text=_REFUSAL, headers={"X-ClickHouse-Exception-Code": "516"})
            names = ("Accept-Encoding", "X-ClickHouse-Format")
            headers = {name: request.headers[name] for name in names if name in request.headers}
            url = target + request.path_qs
            async with session.request(request.method, url, data=await request.read(), headers=headers) as answer:
                passed = {name: value for name, value in answer.headers.items() if name.startswith("X-ClickHouse")}
                return web.Response(status=answer.status, body=await answer.read(), headers=passed)

        runner = web.ServerRunner(web.Server(forward))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
            yield f"https://127.0.0.1:{port}"
        finally:
            await runner.cleanup()
