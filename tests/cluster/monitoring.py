"""The real Prometheus operator and a real Prometheus beside a cluster, for what the chart ships.

The operator runs on this machine and reaches the API server by `kubectl proxy`.  It makes a
configuration of the monitors and rules of one namespace; with that Prometheus runs in the network
of node-0.  There are no pods of either, because there are no images.
"""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.cluster import apiproxy, build, commands, host, names, programs
from tests.cluster.pods import Kubernetes
from tests.support.prometheus import LISTENS

GROUP = "monitoring.coreos.com"
KINDS = ("PodMonitor", "PrometheusRule", "ServiceMonitor")
"""What the chart makes."""
NAME = "test"
EVERY = "1s"
MADE_S_MAX, READY_S_MAX, END_S_MAX = 60.0, 60.0, 15.0
ASK = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"


def definitions() -> list[Path]:
    """The definitions of the Prometheus operator, as they lie in its module."""
    beside = build.program("prometheus-operator").parent
    return [beside / name for name in programs.DEFINITIONS]


def install_definitions(kubernetes: Kubernetes) -> None:
    """Have the kinds of the Prometheus operator in the cluster, as its administrator would."""
    kubernetes("apply", "--server-side", *(f"--filename={each}" for each in definitions()))
    wanted = [f"crd/{name.removesuffix('.yaml').partition('_')[2]}.{GROUP}"
              for name in programs.DEFINITIONS]  # fmt: skip
    kubernetes("wait", "--for=condition=Established", "--timeout=30s", *wanted)


# --- the operator ---------------------------------------------------------------------------------


@contextmanager
def operating(kubernetes: Kubernetes, folder: Path) -> Iterator[None]:
    """The Prometheus operator looks after the namespace; raises KitError with its last words."""
    log = folder / "prometheus-operator.log"
    with apiproxy.proxied(kubernetes.program) as api, log.open("wb") as output:
        words = [
            build.program("prometheus-operator"),
            f"-apiserver=http://{api.address}",
            f"-namespaces={kubernetes.namespace}",
            "-web.listen-address=127.0.0.1:0",
        ]
        with _running(words, output):
            yield


def choose_all(kubernetes: Kubernetes) -> None:
    """A Prometheus that chooses every monitor and rule of the namespace, without a pod of it."""
    spec: dict[str, Any] = {"replicas": 0, "scrapeInterval": EVERY, "evaluationInterval": EVERY}
    spec |= {
        f"{kind}Selector": {} for kind in ("podMonitor", "serviceMonitor", "rule")
    }  # an empty one chooses all
    made = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Prometheus",
        "metadata": {"name": NAME},
        "spec": spec,
    }
    kubernetes("apply", "-f", "-", stdin=json.dumps(made))


def configuration(kubernetes: Kubernetes, holds: Callable[[dict[str, Any]], bool]) -> Any:
    """What the operator made of the monitors, once it holds; raises KitError."""
    return host.eventually(
        "the Prometheus operator has made the configuration",
        lambda: _configuration(kubernetes),
        lambda made: bool(made) and holds(made),
        timeout_s=MADE_S_MAX,
    )


def _configuration(kubernetes: Kubernetes) -> dict[str, Any]:
    found = kubernetes("get", "secret", f"prometheus-{NAME}", "--ignore-not-found", "-o", "json")
    if not found:
        return {}
    packed = base64.b64decode(json.loads(found)["data"]["prometheus.yaml.gz"])
    made: dict[str, Any] = yaml.safe_load(gzip.decompress(packed))
    return made


def rules(kubernetes: Kubernetes) -> dict[str, str]:
    """The files of rules that the operator made, by name."""
    found = kubernetes.get("configmap", f"prometheus-{NAME}-rulefiles-0")
    return dict(found["data"])


# --- Prometheus -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A Prometheus in the network of node-0."""

    namespace: str
    address: str

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Each series of an instant with its value; raises KitError."""
        words = urllib.parse.urlencode({"query": expression})
        found = self._get(f"query?{words}")["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def rule_health(self) -> dict[str, str]:
        """Whether each rule was evaluated: ok, unknown, or what went wrong."""
        groups = self._get("rules")["groups"]
        return {
            rule["name"]: rule.get("lastError") or rule["health"]
            for group in groups
            for rule in group["rules"]
        }

    def problems(self) -> dict[str, str]:
        """Why targets were not scraped, by their address."""
        return {
            each["scrapeUrl"]: each["lastError"] or each["health"]
            for each in self._get("targets?state=active")["activeTargets"]
            if each["health"] != "up"
        }

    def _get(self, path: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}"
        return json.loads(_inside(self.namespace, url))["data"]


@contextmanager
def scraping(
    cluster: names.Cluster, made: dict[str, Any], files: Mapping[str, str], folder: Path
) -> Iterator[Asked]:
    """Prometheus with the operator's configuration; raises KitError with its last words."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(_outside_of_pods(made, cluster, folder)), encoding="utf-8")
    log = folder / "prometheus.log"
    words: list[str | Path] = [
        build.program("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--scrape.discovery-reload-interval=500ms",
    ]
    with log.open("wb") as output, _running(commands.inside(cluster.label, words), output) as one:
        address = _listening(one, log)
        yield Asked(cluster.label, address)


def _outside_of_pods(made: dict[str, Any], cluster: names.Cluster, folder: Path) -> dict[str, Any]:
    """The same for a process that is in no pod: where the API server is, and where its rules are.

    The operator leaves `$(SHARD)` to be filled in by a helper in the pod.
    """
    changed: dict[str, Any] = json.loads(json.dumps(made).replace("$(SHARD)", "0"))
    for scraped in changed["scrape_configs"]:
        for found in scraped["kubernetes_sd_configs"]:
            found["kubeconfig_file"] = str(cluster.state / "admin.conf")
    changed["rule_files"] = [f"{folder}/*-*.yaml"]
    return changed


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    def look() -> str:
        told = log.read_text("utf-8", errors="replace")
        if process.poll() is not None:
            raise host.KitError(f"Prometheus ended with {process.returncode}: {told[-800:]}")
        found = LISTENS.search(told)
        return found[1] if found else ""

    return host.eventually("Prometheus listens", look, bool, timeout_s=READY_S_MAX)


def _inside(namespace: str, url: str) -> str:
    return host.run(commands.inside(namespace, [sys.executable, "-c", ASK, url]))


@contextmanager
def _running(words: list[Any], output: Any) -> Iterator[subprocess.Popen[bytes]]:
    told = [str(word) for word in words]
    process = subprocess.Popen(told, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
