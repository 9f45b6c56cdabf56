"""What tests in a cluster share: kubectl, a namespace for each module, and one release for all.

Everything here refuses a cluster that is not marked for tests.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster import host, mark
from tests.cluster.pods import READY_S_MAX, Kubernetes
from tests.cluster.releases import Release


@contextmanager
def a_namespace() -> Iterator[Kubernetes]:
    """A namespace with the strictest standard for pods, which goes with the block."""
    mark.check()
    made = Kubernetes(mark.kubectl(), f"midstreamer-smoke-{secrets.token_hex(4)}")
    made("create", "namespace", made.namespace)
    enforced = "pod-security.kubernetes.io/enforce=restricted"
    made("label", "namespace", made.namespace, enforced)
    host.until(
        "the default ServiceAccount is there",
        lambda: bool(made.get("serviceaccounts")["items"]),
        timeout_s=READY_S_MAX,
    )
    yield made
    made("delete", "namespace", made.namespace, "--timeout=60s")


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Kubernetes]:
    """A namespace that goes with its module."""
    with a_namespace() as made:
        yield made


@pytest.fixture(scope="session")
def installed() -> Iterator[Release]:
    """The chart with its defaults, just installed; tests that break it leave it whole."""
    with a_namespace() as made:
        release = Release(made)
        release.install()
        yield release
        release.uninstall()


@pytest.fixture(scope="session")
def release(installed: Release) -> Release:
    """The same once every pod is ready."""
    installed.wait_ready()
    return installed
