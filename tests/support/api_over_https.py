"""Serves the API server of `api_server` over HTTPS, with its own CA, tokens and watches."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from midstreamer.cluster.api import Object
from midstreamer.cluster.service_account import Account
from tests.support.api_server import ApiServer, Refusal

LOOPBACK = "127.0.0.1"
RESOURCES: Object = {
    "kind": "APIResourceList",
    "groupVersion": "certificates.k8s.io/v1",
    "resources": [
        {
            "name": "certificatesigningrequests",
            "singularName": "certificatesigningrequest",
            "namespaced": False,
            "kind": "CertificateSigningRequest",
            "shortNames": ["csr"],
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        }
    ],
}


def _resource(plural: str, kind: str) -> Object:
    """A namespaced resource, as the API server lists it in discovery."""
    return {
        "name": plural,
        "singularName": kind.lower(),
        "namespaced": True,
        "kind": kind,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    }


def _group(name: str, version: str) -> Object:
    named = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [named], "preferredVersion": named}


DISCOVERY: dict[str, Object] = {
    "/version": {"major": "1", "minor": "34"},
    "/api": {"versions": ["v1"]},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {
                "name": "namespaces",
                "singularName": "namespace",
                "namespaced": False,
                "kind": "Namespace",
                "verbs": ["get", "list", "watch"],
            },
            _resource("podtemplates", "PodTemplate"),
        ],
    },
    "/apis": {
        "groups": [
            _group("certificates.k8s.io", "v1"),
            _group("apps", "v1"),
            _group("midstreamer.dev", "v1alpha1"),
        ]
    },
    "/apis/apps/v1": {
        "kind": "APIResourceList",
        "groupVersion": "apps/v1",
        "resources": [_resource("deployments", "Deployment")],
    },
    "/apis/midstreamer.dev/v1alpha1": {
        "kind": "APIResourceList",
        "groupVersion": "midstreamer.dev/v1alpha1",
        "resources": [_resource("agentpools", "AgentPool")],
    },
    "/apis/certificates.k8s.io/v1": RESOURCES,
}
"""The answers to discovery, by path; kopf requests them before it watches anything."""


@dataclass
class Served:
    """An API server that listens on loopback."""

    server: ApiServer
    port: int
    directory: Path
    """The directory with ``ca.crt``; `account` makes a folder in it for each service account."""
    connections: int = 0
    watches: int = 0
    breaks: list[str] = field(default_factory=list)
    """How each of the next requests fails, in order: `close`, `500`, `429` or `text`."""

    def account(self, user: str, *, namespace: str = "fleet", name: str = "") -> Account:
        """Write the files of a service account, as Kubernetes mounts them into a pod."""
        directory = self.directory / (name or user.replace("/", "+"))
        directory.mkdir(exist_ok=True)
        (directory / "token").write_text(f"{user}\n")
        (directory / "namespace").write_text(namespace)
        (directory / "ca.crt").write_bytes((self.directory / "ca.crt").read_bytes())
        return Account(LOOPBACK, self.port, namespace, directory)


@asynccontextmanager
async def served(server: ApiServer, directory: Path) -> AsyncIterator[Served]:
    """Serve the API server on a free port of loopback until the block ends."""
    result = Served(server, 0, directory)
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", _handler(result))
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=certified(directory))
    await site.start()
    result.port = runner.addresses[0][1]
    try:
        yield result
    finally:
        await runner.cleanup()


def _handler(served: Served) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    seen: set[int] = set()

    async def handle(request: web.Request) -> web.StreamResponse:
        if id(request.transport) not in seen:
            seen.add(id(request.transport))
            served.connections += 1
        if served.breaks:
            return await _broken(served.breaks.pop(0), request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = served.server.users.get(token)
        if scheme != "Bearer" or user is None:
            return web.json_response({"message": "Unauthorized", "code": 401}, status=401)
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        query = dict(request.query)
        if query.pop("watch", "") in ("1", "true"):
            return await _watched(served, request, query)
        body = json.loads(await request.read() or b"null")
        status, result = served.server.answer(user, request.method, request.path, body, query)
        return web.json_response(result, status=status)

    return handle


async def _watched(
    served: Served, request: web.Request, query: dict[str, str]
) -> web.StreamResponse:
    user = served.server.users[request.headers["Authorization"].removeprefix("Bearer ")]
    if not served.server.allows(user, "WATCH", request.path):
        message = f"{user.username} cannot watch {request.path}"
        return web.json_response({"message": message, "code": 403}, status=403)
    served.watches += 1
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    lasts_s = query.pop("timeoutSeconds", "3600")
    if not lasts_s.isdecimal():
        message = f'strconv.ParseInt: parsing "{lasts_s}": invalid syntax'
        return web.json_response({"message": message, "code": 400}, status=400)
    changes = served.server.changes(user, request.path, query, float(lasts_s))
    try:
        await response.prepare(request)
        async for change in changes:
            line = json.dumps({"type": change.type, "object": change.object}).encode() + b"\n"
            # Send each line in two pieces: a reader that takes every piece for a whole line must
            # fail.
            await response.write(line[:40])
            await response.write(line[40:])
    except Refusal as refusal:
        line = json.dumps({"type": "ERROR", "object": refusal.body}).encode() + b"\n"
        await response.write(line)
    except ConnectionResetError:
        pass  # the watching client closed the connection
    finally:
        await changes.aclose()
    return response


async def _broken(how: str, request: web.Request) -> web.StreamResponse:
    match how:
        case "close":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        case "text":
            return web.Response(status=502, text="<html>bad gateway</html>")
        case "429":
            return web.json_response(
                {"message": "too many requests"}, status=429, headers={"Retry-After": "7"}
            )
    return web.json_response({"message": "etcd is away"}, status=int(how))


def certified(directory: Path) -> ssl.SSLContext:
    """Return the TLS context of a server on loopback; write its CA to ``ca.crt`` in a folder.

    The CA certificate has no key identifier, like the CAs of many real clusters.
    """
    key, ca_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("cluster", ca_key, "cluster", ca_key, is_authority=True)
    leaf = _certificate("server", key, "cluster", ca_key, is_authority=False)
    (directory / "ca.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    pair = directory / "server.pem"
    pair.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return context


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    if not is_authority:
        address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
