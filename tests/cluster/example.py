"""`examples/in-cluster` in a namespace of its own, and what its pod says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from midstreamer.cluster import naming
from tests.cluster import host, mark, releases
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release
from tests.load.records import Request

EXAMPLE = Path(__file__).parents[2] / "examples/in-cluster"
PER_SECOND = 50
LINE = re.compile(r"^(\S+) \d+: .*, append (\S+) s, match (\S+) s$")


def let_in(fleet: Release, app: Kubernetes, *more: str) -> None:
    """Have a fleet let an application's pods in once their namespace is labelled; raises KitError.

    `more` are entries of the allowlist beside.
    """
    entries = ",".join((releases.CLIENTS, f"client/{app.namespace}/*", *more))
    words = ["upgrade", fleet.name, str(releases.CHART), "--namespace", fleet.namespace]
    words += ["--reuse-values", "--set", f"clients.namespaces={{{app.namespace}}}"]
    host.run([mark.helm(), *words, "--set", f"allowlist={{{entries}}}"])


def label(app: Kubernetes, fleet: Release) -> None:
    """Let the pods of a namespace be clients; raises KitError."""
    app(
        "label",
        "namespace",
        app.namespace,
        f"{naming.client_label(fleet.namespace, fleet.name)}=client",
    )


def deployed(app: Kubernetes, fleet: Release, series: int = 1) -> None:
    """The example as it is, but for its image, the fleet, its rate and how many series it walks.

    A series waits for each answer, so that one alone may not come to the rate.
    """
    text = (EXAMPLE / "app.yaml").read_text()
    images = releases.images()
    registry = images["registry"] or "localhost"
    text = text.replace("localhost/midstreamer:TAG", f"{registry}/midstreamer:{images['tag']}")
    text = text.replace("value: fleet", f"value: {fleet.namespace}")
    text = text.replace("value: mid}", f"value: {fleet.name}}}")
    told = {"PER_SECOND": PER_SECOND, "SERIES": series}
    rates = "".join(rf'\n\1  - {{name: {name}, value: "{told[name]}"}}' for name in told)
    text = re.sub(r"^( +)env:$", rf"\1env:{rates}", text, flags=re.MULTILINE)
    app("create", "configmap", "app", f"--from-file={EXAMPLE / 'app.py'}")
    app("apply", "-f", "-", stdin=text)


def log(app: Kubernetes) -> str:
    """What the pod has said lately; nothing while its container is made."""
    try:
        return app("logs", "deployment/app", "--tail=200")
    except host.KitError:
        return ""


def decisions(app: Kubernetes) -> int:
    """How many the pod has counted."""
    told = re.findall(r"^([0-9]+): ", log(app), flags=re.MULTILINE)
    return int(told[-1]) if told else 0


def restarts(app: Kubernetes) -> int:
    """How often the application was started again: after each request that failed."""
    pods = app.get("pods")["items"]
    return sum(each["restartCount"] for pod in pods for each in pod["status"]["containerStatuses"])


def requests(lines: Iterable[str]) -> list[Request]:
    """The requests in a log with the node's times; times are of this machine's monotonic clock."""
    ahead_s = time.time() - time.monotonic()
    found = []
    for line in lines:
        if read := LINE.match(line):
            said, append_s, match_s = read[1], float(read[2]), float(read[3])
            end_s = datetime.fromisoformat(said).timestamp() - ahead_s
            stored_s = end_s - match_s
            found.append(Request("app", "append", stored_s - append_s, stored_s))
            found.append(Request("app", "match", stored_s, end_s))
    return found
