"""PostgreSQL refuses pods that connect without TLS, or without the right password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import commands_here, pods, releases
from tests.cluster.releases import COMPONENT, INSTANCE, PYTHON, Release

pytestmark = [pytest.mark.cluster]

TRY = """
import asyncio, json, ssl, sys
import asyncpg

verified = ssl.create_default_context(cafile="/trust/trust.pem")
blind = ssl.create_default_context()
blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
host, right = sys.argv[1], open("/password/password").read()
mine = {"host": host, "user": "midstreamer", "database": "midstreamer", "timeout": 10}
tries = {
    "as sync does": {**mine, "ssl": verified, "password": right},
    "plain text": {**mine, "ssl": False, "password": right},
    "wrong password": {**mine, "ssl": verified, "password": "x" * len(right)},
    "no password": {**mine, "ssl": verified, "password": ""},
    "trust of the superuser": {**mine, "ssl": blind, "user": "postgres", "password": ""},
    "superuser with the password": {**mine, "ssl": blind, "user": "postgres", "password": right},
    "another database": {**mine, "ssl": blind, "database": "postgres", "password": right},
    "under another name": {**mine, "host": sys.argv[2], "ssl": verified, "password": right},
}

async def attempt(given):
    try:
        connection = await asyncpg.connect(**given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    await connection.close()
    return "in"

async def all_of_them():
    return {name: await attempt(given) for name, given in tries.items()}

print(json.dumps(asyncio.run(all_of_them())))
"""
"""Python code that tries to log in to the database in several ways and prints the results.

Its first argument is the name of the database's Service, the second the database's IP address.
"""


@pytest.fixture(scope="module")
def tried(release: Release) -> Iterator[dict[str, str]]:
    """Return the result of each attempt to log in to the database: "in", or the error.

    The attempts come from a pod with the trust bundle and the password that a pod of sync has.
    """
    kubectl, name = release.kubernetes, "stranger"
    server = f"{release.name}-postgres.{release.namespace}.svc"
    (postgres,) = release.pods("postgres")
    words = ["-c", TRY, server, postgres["status"]["podIP"]]
    kubectl("apply", "-f", "-", stdin=json.dumps(_let_in(release, name)))
    kubectl("apply", "-f", "-", stdin=json.dumps(_pod(release, name, words)))
    try:
        kubectl.wait(name, "Succeeded")
        yield json.loads(kubectl("logs", name))
    finally:
        kubectl("delete", "pod", name, "--timeout=30s")
        kubectl("delete", "networkpolicy", name)


def test_only_verified_tls_with_the_right_password_leads_in(tried: dict[str, str]) -> None:
    commands_here.say(json.dumps(tried, indent=1))

    assert [name for name, outcome in tried.items() if outcome == "in"] == ["as sync does"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("plain text", "TLS"),
        ("wrong password", "InvalidPasswordError"),
        ("no password", "InvalidPasswordError"),
        ("trust of the superuser", "InvalidAuthorizationSpecificationError"),
        ("superuser with the password", "InvalidAuthorizationSpecificationError"),
        ("another database", "InvalidAuthorizationSpecificationError"),
        ("under another name", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_each_stranger_is_told_why(tried: dict[str, str], what: str, why: str) -> None:
    assert why in tried[what]


def _let_in(release: Release, name: str) -> dict[str, Any]:
    """Return a NetworkPolicy that lets the pod connect, so that only the database can refuse it."""
    postgres = {"matchLabels": {INSTANCE: release.name, COMPONENT: "postgres"}}
    stranger = {"podSelector": {"matchLabels": {"app": name}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": postgres, "ingress": [{"from": [stranger]}]},
    }


def _pod(release: Release, name: str, words: list[str]) -> dict[str, Any]:
    described = pods.pod(name)
    spec, (container,) = described["spec"], described["spec"]["containers"]
    images = releases.images()
    registry = images["registry"] or "localhost"
    container |= {
        "image": f"{registry}/midstreamer:{images['tag']}",
        "imagePullPolicy": images["pullPolicy"],
        "command": [PYTHON],
        "args": words,
        "volumeMounts": [
            {"name": "trust", "mountPath": "/trust"},
            {"name": "password", "mountPath": "/password"},
        ],
    }
    secret = {"secretName": f"{release.name}-postgres", "defaultMode": 0o444}
    spec["volumes"] = [
        {"name": "trust", "configMap": {"name": f"{release.name}-trust"}},
        {"name": "password", "secret": secret},
    ]
    return described
