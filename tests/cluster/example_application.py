"""Deploy the application `examples/in-cluster` in its own namespace, and read its pod's log."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from midstreamer.cluster import kubernetes_names
from tests.cluster import cluster_guard, commands_here, releases
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release
from tests.load.client_reports import Request

EXAMPLE = Path(__file__).parents[2] / "examples/in-cluster"
PER_SECOND = 50
LINE = re.compile(r"^(\S+) \d+: .*, append (\S+) s, match (\S+) s$")


def let_in(fleet: Release, app: Kubernetes, *more: str) -> None:
    """Configure a fleet to admit the pods of an application; raises KitError.

    `more` are additional entries of the allowlist. The fleet admits the pods only if their
    namespace also has the label that `label` sets.
    """
    entries = ",".join((releases.CLIENTS, f"client/{app.namespace}/*", *more))
    words = ["upgrade", fleet.name, str(releases.CHART), "--namespace", fleet.namespace]
    words += ["--reuse-values", "--set", f"clients.namespaces={{{app.namespace}}}"]
    commands_here.run([cluster_guard.helm(), *words, "--set", f"allowlist={{{entries}}}"])


def label(app: Kubernetes, fleet: Release) -> None:
    """Label an application's namespace, so that its pods may be clients; raises KitError."""
    app(
        "label",
        "namespace",
        app.namespace,
        f"{kubernetes_names.client_label(fleet.namespace, fleet.name)}=client",
    )


def deployed(app: Kubernetes, fleet: Release, series: int = 1) -> None:
    """Deploy the example application with the image under test; it sends requests to `fleet`.

    The application generates `PER_SECOND` ticks a second in all, spread over `series` series.  For
    each tick it sends an append, and then a match if the window is full.  A series waits for the
    responses before its next tick, so several series may be needed to reach the rate.
    """
    text = (EXAMPLE / "app.yaml").read_text()
    images = releases.images()
    registry = images["registry"] or "localhost"
    text = text.replace("localhost/midstreamer:TAG", f"{registry}/midstreamer:{images['tag']}")
    text = text.replace("value: fleet", f"value: {fleet.namespace}")
    text = text.replace("value: mid}", f"value: {fleet.name}}}")
    values = {"PER_SECOND": PER_SECOND, "SERIES": series}
    rates = "".join(rf'\n\1  - {{name: {name}, value: "{values[name]}"}}' for name in values)
    text = re.sub(r"^( +)env:$", rf"\1env:{rates}", text, flags=re.MULTILINE)
    app("create", "configmap", "app", f"--from-file={EXAMPLE / 'app.py'}")
    app("apply", "-f", "-", stdin=text)


def log(app: Kubernetes) -> str:
    """Return the last 200 lines of the pod's log; empty while its container starts."""
    try:
        return app("logs", "deployment/app", "--tail=200")
    except commands_here.KitError:
        return ""


def decisions(app: Kubernetes) -> int:
    """Return how many decisions the pod has made, by the last number in its log; 0 without one."""
    counts = re.findall(r"^([0-9]+): ", log(app), flags=re.MULTILINE)
    return int(counts[-1]) if counts else 0


def restarts(app: Kubernetes) -> int:
    """Return how often the application's containers were restarted.

    The application ends when a request fails, and is then restarted.
    """
    pods = app.get("pods")["items"]
    return sum(each["restartCount"] for pod in pods for each in pod["status"]["containerStatuses"])


def requests(lines: Iterable[str]) -> list[Request]:
    """Return the requests in the pod's log, which was read with `kubectl logs --timestamps`.

    So each line begins with the time at which the node received it.  The times of the returned
    requests are converted to this machine's monotonic clock, in seconds.
    """
    ahead_s = time.time() - time.monotonic()
    found = []
    for line in lines:
        if read := LINE.match(line):
            ended_at, append_s, match_s = read[1], float(read[2]), float(read[3])
            end_s = datetime.fromisoformat(ended_at).timestamp() - ahead_s
            stored_s = end_s - match_s
            found.append(Request("app", "append", stored_s - append_s, stored_s))
            found.append(Request("app", "match", stored_s, end_s))
    return found
