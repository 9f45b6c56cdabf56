"""The faults of a release that a test causes: how each begins, how it is reported, how it ends.

The fleet "mid", with one pod of each kind, uses the database of a second release, "db", as an
external server. Each row of WRONGS causes one fault, finds its symptom in the output of
`midstreamer-k8s status`, and removes the cause. The same symptoms are listed in
docs/how-to/troubleshooting-cluster.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from midstreamer_operator.k8s.status_lines import WAITING
from midstreamer_operator.resources import authorities
from tests.cluster import cluster_guard, commands_here, releases
from tests.cluster.outside_client import k8s
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import COMPONENT, INSTANCE, Release

ONE: Mapping[str, Any] = {
    kind: {"replicas": 1} for kind in ("coordinator", "sync", "agent", "operator")
}
SECRET, TRUST, LET_IN = "database", "database-ca", "let-mid-in"
POLICY = "networking.k8s.io/v1"


@dataclass
class Place:
    """The releases "mid" (the fleet) and "db" (its database server), in one namespace."""

    kubernetes: Kubernetes

    @property
    def server(self) -> Release:
        """The release "db", whose database server the fleet "mid" uses."""
        return Release(self.kubernetes, "db", {**ONE, "agent": {"replicas": 0}})

    def fleet(self, **values: Any) -> Release:
        """Return the release "mid"; `values` are added to the values of the fleet."""
        name = f"db-postgres.{self.kubernetes.namespace}.svc"
        own = {
            "enabled": False,
            "dsn": f"postgresql://midstreamer@{name}/midstreamer?sslmode=verify-full",
            "existingSecret": SECRET,
            "ca": {"secret": TRUST},
        }
        return Release(self.kubernetes, "mid", {**ONE, "postgresql": own, **values})

    def trust(self) -> None:
        """Make the Secret with the CA certificate by which the fleet verifies the server."""
        held = self.kubernetes.get(f"secret/{authorities.secret_name('db')}")
        self._secret(TRUST, {"ca.crt": held["data"][authorities.CERTIFICATE]})

    def password(self, text: str = "") -> None:
        """Make the Secret with the database password: `text`, or by default the right one."""
        given = text or self.server.password()
        self._secret(SECRET, {"password": base64.b64encode(given.encode()).decode()})

    def let_in(self) -> None:
        """Make the NetworkPolicy that lets the fleet's sync pods connect to the server."""
        (sync, postgres) = (
            {"matchLabels": {INSTANCE: release, COMPONENT: component}}
            for release, component in (("mid", "sync"), ("db", "postgres"))
        )
        ports = [{"protocol": "TCP", "port": 5432}]
        spec = {
            "podSelector": postgres,
            "ingress": [{"from": [{"podSelector": sync}], "ports": ports}],
        }
        self._apply(POLICY, "NetworkPolicy", LET_IN, spec=spec)

    def quota(self) -> None:
        """Make a ResourceQuota that allows no new pod in the namespace."""
        self._apply("v1", "ResourceQuota", "full", spec={"hard": {"pods": "0"}})

    def volume(self) -> None:
        """Make the volume for the claim of the database "db"; only in a cluster of `make cluster`.

        Other clusters make the volume themselves.
        """
        if cluster := cluster_guard.made_here():
            self.server.volume(cluster)

    def again(self, component: str, release: str = "mid") -> None:
        """Delete the pods of a component of a release; new pods replace them."""
        selector = f"{INSTANCE}={release},{COMPONENT}={component}"
        self.kubernetes("delete", "pods", "-l", selector, "--timeout=60s")

    def scale(self, owner: str, count: int) -> None:
        """Scale a Deployment or StatefulSet to `count` pods."""
        self.kubernetes("scale", owner, f"--replicas={count}")

    def lost(self, *words: str) -> None:
        """Delete the object that the words name, such as ("service", "db-postgres")."""
        self.kubernetes("delete", *words, "--timeout=60s")

    def screen(self, release: str) -> str:
        """Return what `midstreamer-k8s status` prints about a release."""
        done = k8s(Release(self.kubernetes, release), "status")
        return done.stdout + done.stderr

    def said(self) -> Iterator[str]:
        """Yield messages of Kubernetes: Events, termination messages of pods, pools' conditions."""
        for event in self.kubernetes.get("events")["items"]:
            yield f"Event {event['reason']}: {event['message']}"
        for pod in self.kubernetes.get("pods")["items"]:
            for each in pod["status"].get("containerStatuses", ()):
                for state in (each.get("lastState", {}), each.get("state", {})):
                    if message := state.get("terminated", {}).get("message"):
                        yield f"termination message: {message}"
        for pool in self.kubernetes.get("agentpools")["items"]:
            for each in pool.get("status", {}).get("conditions", ()):
                yield f"condition {each['reason']}: {each['message']}"

    def _secret(self, name: str, data: dict[str, str]) -> None:
        self._apply("v1", "Secret", name, data=data)

    def _apply(self, version: str, kind: str, name: str, **content: Any) -> None:
        manifest = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}
        self.kubernetes("apply", "-f", "-", stdin=json.dumps(manifest))


Step = Callable[[Place], Any]


class Wrong(NamedTuple):
    """One fault: what it is, how a test causes it, its symptom, and how the test removes it."""

    what: str
    begin: Step
    symptom: str
    """A text that occurs in the output of `midstreamer-k8s status` during the fault.

    It also occurs in a message of Kubernetes (see `Place.said`), unless the field `said` is set.
    """
    end: Step
    release: str = "mid"
    said: str = ""
    """A text that occurs in a message of Kubernetes; empty when `symptom` itself occurs there."""


def _elsewhere(place: Place) -> Release:
    return place.fleet(image={**releases.images(), "tag": "no-such", "pullPolicy": "IfNotPresent"})


def _both(*steps: Step) -> Step:
    def taken(place: Place) -> None:
        for step in steps:
            step(place)

    return taken


WRONGS = (
    Wrong(
        "the database gets no volume, as in a cluster without a default StorageClass",
        lambda place: place.server.put(),
        "unbound immediate PersistentVolumeClaims",
        Place.volume,
        "db",
    ),
    Wrong(
        "the Secret of the database's password is missing",
        _both(
            lambda place: place.server.wait_ready(),
            Place.trust,
            Place.let_in,
            lambda place: place.fleet().put(),
        ),
        f'secret "{SECRET}" not found',
        lambda place: place.password(),
    ),
    Wrong(
        "the password of the database is wrong",
        _both(lambda place: place.password("guessed" * 6), lambda place: place.again("sync")),
        "it refused the login (28P01",
        lambda place: place.password(),
    ),
    Wrong(
        "the host name of the database does not resolve",
        _both(
            lambda place: place.lost("service", "db-postgres"), lambda place: place.again("sync")
        ),
        "the name of its host has no address",
        lambda place: place.server.put(),
    ),
    Wrong(
        "the network drops packets to the database",
        _both(lambda place: place.lost("networkpolicy", LET_IN), lambda place: place.again("sync")),
        "it did not answer in time",
        Place.let_in,
    ),
    Wrong(
        "the database stops while the fleet runs",
        lambda place: place.scale("statefulset/db-postgres", 0),
        "Incomplete: store: PostgreSQL",
        lambda place: place.scale("statefulset/db-postgres", 1),
    ),
    Wrong(
        "the image does not exist in its registry",
        lambda place: _elsewhere(place).put(),
        "midstreamer:no-such",
        lambda place: place.fleet().put(),
    ),
    Wrong(
        "the namespace's ResourceQuota is full",
        _both(Place.quota, lambda place: place.again("sync"), lambda place: place.again("agent")),
        "exceeded quota: full",
        lambda place: place.lost("resourcequota", "full"),
    ),
    Wrong(
        "no operator runs",
        _both(
            lambda place: place.scale("deployment/mid-operator", 0),
            lambda place: place.again("sync"),
        ),
        "is the operator of",
        lambda place: place.scale("deployment/mid-operator", 1),
    ),
    Wrong(
        "the administrator has not listed the installation in the cluster's chart",
        _both(
            lambda place: place.fleet(cluster={"create": False}).put(),
            lambda place: place.again("sync"),
        ),
        "by installations of the chart midstreamer-cluster",
        lambda place: place.fleet().put(),
    ),
    Wrong(
        "neither the chart nor the cluster sets the pods' user",
        lambda place: place.fleet(podSecurityContext=None).put(),
        "/etc/postgres/password: Permission denied",
        lambda place: place.fleet().put(),
    ),
)


def found(place: Place, wrong: Wrong, *, timeout_s: float = 120.0) -> str:
    """Wait for the symptom in the output of `midstreamer-k8s status`; return its line.

    Raises KitError with the output when the symptom does not appear in time.
    """
    screen = commands_here.eventually(
        f"`midstreamer-k8s status` shows {wrong.symptom!r}",
        lambda: place.screen(wrong.release),
        lambda output: wrong.symptom in output,
        timeout_s=timeout_s,
    )
    return next(line.strip() for line in screen.splitlines() if wrong.symptom in line)


def well(place: Place, name: str = "mid", *, timeout_s: float = 240.0) -> None:
    """Wait until all pods of a release are ready and `midstreamer-k8s status` shows no problem."""
    release = place.server if name == "db" else place.fleet()
    release.wait_ready(timeout_s=timeout_s)
    commands_here.eventually(
        f"`midstreamer-k8s status` has no section `{WAITING}`",
        lambda: place.screen(name),
        lambda screen: f"\n{WAITING}\n" not in screen,
        timeout_s=timeout_s,
    )
