"""Run a real Prometheus operator and a real Prometheus, to test the chart's monitors and rules.

The operator runs on this machine and reaches the API server through `kubectl proxy`.  It makes
Prometheus's configuration from the monitors and rules of one namespace.  Prometheus then runs with
that configuration in the network of node-0.  Both run as processes and not in pods, because there
are no images of them.
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

from tests.cluster import (
    api_requests,
    commands_here,
    component_commands,
    names,
    program_builds,
    programs,
)
from tests.cluster.pods import Kubernetes
from tests.support.prometheus import LISTENS

GROUP = "monitoring.coreos.com"
KINDS = ("PodMonitor", "PrometheusRule", "ServiceMonitor")
"""The kinds of objects of the Prometheus operator that our chart renders."""
NAME = "test"
EVERY = "1s"
MADE_S_MAX, READY_S_MAX, END_S_MAX = 60.0, 60.0, 15.0
ASK = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"


def definitions() -> list[Path]:
    """Return the files with the CustomResourceDefinitions of the Prometheus operator."""
    beside = program_builds.program("prometheus-operator").parent
    return [beside / name for name in programs.DEFINITIONS]


def install_definitions(kubernetes: Kubernetes) -> None:
    """Install the CustomResourceDefinitions of the Prometheus operator in the cluster."""
    kubernetes("apply", "--server-side", *(f"--filename={each}" for each in definitions()))
    wanted = [f"crd/{name.removesuffix('.yaml').partition('_')[2]}.{GROUP}"
              for name in programs.DEFINITIONS]  # fmt: skip
    kubernetes("wait", "--for=condition=Established", "--timeout=30s", *wanted)


# --- the operator ---------------------------------------------------------------------------------


@contextmanager
def operating(kubernetes: Kubernetes, folder: Path) -> Iterator[None]:
    """Run the Prometheus operator during the block, for the namespace of `kubernetes`.

    Its log is in `folder`.  Raises KitError when `kubectl proxy` does not start.
    """
    log = folder / "prometheus-operator.log"
    with api_requests.proxied(kubernetes.program) as api, log.open("wb") as output:
        words = [
            program_builds.program("prometheus-operator"),
            f"-apiserver=http://{api.address}",
            f"-namespaces={kubernetes.namespace}",
            "-web.listen-address=127.0.0.1:0",
        ]
        with _running(words, output):
            yield


def choose_all(kubernetes: Kubernetes) -> None:
    """Make a Prometheus object that selects all monitors and rules of its namespace.

    The object has 0 replicas, so no pod is made: here, Prometheus runs as a process.
    """
    spec: dict[str, Any] = {"replicas": 0, "scrapeInterval": EVERY, "evaluationInterval": EVERY}
    spec |= {
        f"{kind}Selector": {} for kind in ("podMonitor", "serviceMonitor", "rule")
    }  # an empty selector selects all objects
    prometheus = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Prometheus",
        "metadata": {"name": NAME},
        "spec": spec,
    }
    kubernetes("apply", "-f", "-", stdin=json.dumps(prometheus))


def configuration(kubernetes: Kubernetes, holds: Callable[[dict[str, Any]], bool]) -> Any:
    """Return the Prometheus configuration that the operator makes, once it is as wanted.

    The function `holds` is called with the configuration until it returns true. Raises KitError
    when it does not return true in time.
    """
    return commands_here.eventually(
        "the Prometheus operator has made the configuration",
        lambda: _configuration(kubernetes),
        lambda settings: bool(settings) and holds(settings),
        timeout_s=MADE_S_MAX,
    )


def _configuration(kubernetes: Kubernetes) -> dict[str, Any]:
    found = kubernetes("get", "secret", f"prometheus-{NAME}", "--ignore-not-found", "-o", "json")
    if not found:
        return {}
    packed = base64.b64decode(json.loads(found)["data"]["prometheus.yaml.gz"])
    settings: dict[str, Any] = yaml.safe_load(gzip.decompress(packed))
    return settings


def rules(kubernetes: Kubernetes) -> dict[str, str]:
    """Return the texts of the rule files that the operator made, by file name."""
    found = kubernetes.get("configmap", f"prometheus-{NAME}-rulefiles-0")
    return dict(found["data"])


# --- Prometheus -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Sends queries to a Prometheus that listens at `address` in a network namespace."""

    namespace: str
    address: str

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Run an instant query; return the labels and value of each series.  Raises KitError."""
        words = urllib.parse.urlencode({"query": expression})
        found = self._get(f"query?{words}")["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def rule_health(self) -> dict[str, str]:
        """Return the last error of each rule, by rule name.

        A rule without an error has its health instead: "ok" or "unknown".
        """
        groups = self._get("rules")["groups"]
        return {
            rule["name"]: rule.get("lastError") or rule["health"]
            for group in groups
            for rule in group["rules"]
        }

    def problems(self) -> dict[str, str]:
        """Return the last error of each target that is not up, by scrape URL.

        A target without an error has its health instead, such as "unknown".
        """
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
    """Run Prometheus inside the block.

    `made` is the configuration that the Prometheus operator has made.  `files` are the rule files
    that it has made, by name.  Raises KitError when Prometheus does not start; if Prometheus has
    ended, the message contains the end of Prometheus's log.
    """
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(_outside_of_pods(made, cluster, folder)), encoding="utf-8")
    log = folder / "prometheus.log"
    words: list[str | Path] = [
        program_builds.program("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--scrape.discovery-reload-interval=500ms",
    ]
    with (
        log.open("wb") as output,
        _running(component_commands.inside(cluster.label, words), output) as process,
    ):
        address = _listening(process, log)
        yield Asked(cluster.label, address)


def _outside_of_pods(made: dict[str, Any], cluster: names.Cluster, folder: Path) -> dict[str, Any]:
    """Return the operator's configuration, changed for a Prometheus that runs outside of pods.

    The kubeconfig of the API server and the path of the rule files are added. The operator's
    configuration contains "$(SHARD)" as a placeholder, which another container of the pod would
    replace with the shard's number. Here it is replaced with 0.
    """
    changed: dict[str, Any] = json.loads(json.dumps(made).replace("$(SHARD)", "0"))
    for scraped in changed["scrape_configs"]:
        for found in scraped["kubernetes_sd_configs"]:
            found["kubeconfig_file"] = str(cluster.state / "admin.conf")
    changed["rule_files"] = [f"{folder}/*-*.yaml"]
    return changed


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    def look() -> str:
        output = log.read_text("utf-8", errors="replace")
        if process.poll() is not None:
            raise commands_here.KitError(
                f"Prometheus ended with {process.returncode}: {output[-800:]}"
            )
        found = LISTENS.search(output)
        return found[1] if found else ""

    return commands_here.eventually("Prometheus listens", look, bool, timeout_s=READY_S_MAX)


def _inside(namespace: str, url: str) -> str:
    return commands_here.run(component_commands.inside(namespace, [sys.executable, "-c", ASK, url]))


@contextmanager
def _running(words: list[Any], output: Any) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(word) for word in words]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
