"""What goes wrong with a release, how it is told, and how it ends: the table of a trial.

A fleet `mid` of one pod of each kind takes the database of a second release, `db`, as a server of
its own. Each row changes one thing, finds the symptom where people look, and takes the cause away.
The symptoms are those of docs/how-to/troubleshooting-cluster.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from midstreamer_operator.resources import authorities
from tests.cluster import host, mark, releases
from tests.cluster.people import k8s
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import COMPONENT, INSTANCE, Release

ONE: Mapping[str, Any] = {
    kind: {"replicas": 1} for kind in ("coordinator", "sync", "agent", "operator")
}
SECRET, TRUST, LET_IN = "database", "database-ca", "let-mid-in"
POLICY = "networking.k8s.io/v1"


@dataclass
class Place:
    """The two releases in one namespace."""

    kubernetes: Kubernetes

    @property
    def server(self) -> Release:
        """Whose database is used."""
        return Release(self.kubernetes, "db", {**ONE, "agent": {"replicas": 0}})

    def fleet(self, **values: Any) -> Release:
        """The fleet, with values beside its own."""
        name = f"db-postgres.{self.kubernetes.namespace}.svc"
        own = {
            "enabled": False,
            "dsn": f"postgresql://midstreamer@{name}/midstreamer?sslmode=verify-full",
            "existingSecret": SECRET,
            "ca": {"secret": TRUST},
        }
        return Release(self.kubernetes, "mid", {**ONE, "postgresql": own, **values})

    def trust(self) -> None:
        """Make the Secret with which the fleet trusts the server."""
        held = self.kubernetes.get(f"secret/{authorities.secret_name('db')}")
        self._secret(TRUST, {"ca.crt": held["data"][authorities.CERTIFICATE]})

    def password(self, text: str = "") -> None:
        """Make the Secret with the server's password, or another one."""
        given = text or self.server.password()
        self._secret(SECRET, {"password": base64.b64encode(given.encode()).decode()})

    def let_in(self) -> None:
        """Open the server for sync of the fleet."""
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
        """Let the namespace have no pod more."""
        self._apply("v1", "ResourceQuota", "full", spec={"hard": {"pods": "0"}})

    def volume(self) -> None:
        """Make the volume that the server's database claims."""
        if cluster := mark.made_here():
            self.server.volume(cluster)

    def again(self, component: str, release: str = "mid") -> None:
        """Delete the pods of a kind; others take their place."""
        selector = f"{INSTANCE}={release},{COMPONENT}={component}"
        self.kubernetes("delete", "pods", "-l", selector, "--timeout=60s")

    def scale(self, owner: str, count: int) -> None:
        """Have so many pods of a Deployment or StatefulSet."""
        self.kubernetes("scale", owner, f"--replicas={count}")

    def lost(self, *words: str) -> None:
        """Delete an object."""
        self.kubernetes("delete", *words, "--timeout=60s")

    def screen(self, release: str) -> str:
        """What `midstreamer-k8s status` prints."""
        done = k8s(Release(self.kubernetes, release), "status")
        return done.stdout + done.stderr

    def said(self) -> Iterator[str]:
        """What pods and their owners say themselves: Events, last words, conditions."""
        for event in self.kubernetes.get("events")["items"]:
            yield f"Event {event['reason']}: {event['message']}"
        for pod in self.kubernetes.get("pods")["items"]:
            for each in pod["status"].get("containerStatuses", ()):
                for state in (each.get("lastState", {}), each.get("state", {})):
                    if message := state.get("terminated", {}).get("message"):
                        yield f"last words: {message}"
        for pool in self.kubernetes.get("agentpools")["items"]:
            for each in pool.get("status", {}).get("conditions", ()):
                yield f"condition {each['reason']}: {each['message']}"

    def _secret(self, name: str, data: dict[str, str]) -> None:
        self._apply("v1", "Secret", name, data=data)

    def _apply(self, version: str, kind: str, name: str, **content: Any) -> None:
        made = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}
        self.kubernetes("apply", "-f", "-", stdin=json.dumps(made))


Step = Callable[[Place], Any]


class Wrong(NamedTuple):
    """One thing that goes wrong."""

    what: str
    begin: Step
    symptom: str
    """A part of one line of the screen, and of what a pod says itself."""
    end: Step
    release: str = "mid"
    said: str = ""
    """What the pod says, where that is in other words."""


def _elsewhere(place: Place) -> Release:
    return place.fleet(image={**releases.images(), "tag": "no-such", "pullPolicy": "IfNotPresent"})


def _both(*steps: Step) -> Step:
    def taken(place: Place) -> None:
        for step in steps:
            step(place)

    return taken


WRONGS = (
    Wrong(
        "no volume for the database, as without a default StorageClass",
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
        "the database's name resolves to nobody",
        _both(
            lambda place: place.lost("service", "db-postgres"), lambda place: place.again("sync")
        ),
        "the name of its host has no address",
        lambda place: place.server.put(),
    ),
    Wrong(
        "the network drops what goes to the database",
        _both(lambda place: place.lost("networkpolicy", LET_IN), lambda place: place.again("sync")),
        "it did not answer in time",
        Place.let_in,
    ),
    Wrong(
        "the database goes away while the fleet works",
        lambda place: place.scale("statefulset/db-postgres", 0),
        "Incomplete: store: PostgreSQL",
        lambda place: place.scale("statefulset/db-postgres", 1),
    ),
    Wrong(
        "the image is not where it is looked for",
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
        "the administrator has not named the installation to the cluster",
        _both(
            lambda place: place.fleet(cluster={"create": False}).put(),
            lambda place: place.again("sync"),
        ),
        "by installations of the chart midstreamer-cluster",
        lambda place: place.fleet().put(),
    ),
    Wrong(
        "nobody sets the pods' user, on a cluster that does not either",
        lambda place: place.fleet(podSecurityContext=None).put(),
        "/etc/postgres/password: Permission denied",
        lambda place: place.fleet().put(),
    ),
)


def found(place: Place, wrong: Wrong, *, timeout_s: float = 120.0) -> str:
    """The line of the screen that names the cause; raises KitError with the screen."""
    screen = host.eventually(
        f"the screen says {wrong.symptom!r}",
        lambda: place.screen(wrong.release),
        lambda told: wrong.symptom in told,
        timeout_s=timeout_s,
    )
    return next(line.strip() for line in screen.splitlines() if wrong.symptom in line)


def well(place: Place, name: str = "mid", *, timeout_s: float = 240.0) -> None:
    """Wait until every pod is ready, and the screen names nothing any more."""
    release = place.server if name == "db" else place.fleet()
    release.wait_ready(timeout_s=timeout_s)
    host.eventually(
        "the screen names nothing that is waited for",
        lambda: place.screen(name),
        lambda told: "\nwaits\n" not in told,
        timeout_s=timeout_s,
    )
