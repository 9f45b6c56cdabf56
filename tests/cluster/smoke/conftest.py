"""What tests in a cluster share: kubectl for KUBECONFIG, and a namespace for each module."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster import host, mark
from tests.cluster.pods import READY_S_MAX, Kubernetes


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Kubernetes]:
    """A namespace that goes with its module; refuses a cluster that is not marked for tests."""
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
