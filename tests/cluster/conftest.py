"""Fixtures of the tests in a cluster: kubectl, a namespace per test module, one shared release.

Every fixture refuses a cluster that is not marked for tests (see `tests.cluster.cluster_guard`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster import cluster_guard, commands_here
from tests.cluster.pods import READY_S_MAX, Kubernetes
from tests.cluster.releases import Release


@contextmanager
def a_namespace() -> Iterator[Kubernetes]:
    """Make a namespace that enforces the pod security standard "restricted"; delete it at exit."""
    cluster_guard.check()
    kubernetes = Kubernetes(cluster_guard.kubectl(), f"midstreamer-smoke-{secrets.token_hex(4)}")
    kubernetes("create", "namespace", kubernetes.namespace)
    enforced = "pod-security.kubernetes.io/enforce=restricted"
    kubernetes("label", "namespace", kubernetes.namespace, enforced)
    commands_here.until(
        "the default ServiceAccount exists",
        lambda: bool(kubernetes.get("serviceaccounts")["items"]),
        timeout_s=READY_S_MAX,
    )
    yield kubernetes
    kubernetes("delete", "namespace", kubernetes.namespace, "--timeout=60s")


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Kubernetes]:
    """Return kubectl in a new namespace, which is deleted after the tests of the module."""
    with a_namespace() as kubectl:
        yield kubectl


@pytest.fixture(scope="session")
def installed() -> Iterator[Release]:
    """Return a release of the chart with default values, installed but perhaps not yet ready.

    All tests of a session share the release, so a test that breaks the release must repair it.
    """
    with a_namespace() as kubernetes:
        release = Release(kubernetes)
        release.install()
        yield release
        release.uninstall()


@pytest.fixture(scope="session")
def release(installed: Release) -> Release:
    """Return the shared release of the session, after every pod of the release is ready."""
    installed.wait_ready()
    return installed
