"""Read and write the files below the state directory of a cluster.

cluster.json   how the cluster was started     kubeconfig   for people and tests
bin/           links to the programs           pki/         keys and certificates
log/, pids/    logs and records of processes   nodes/       a directory for each node
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster import certificates, commands_here, component_commands, component_configs, names
from tests.cluster.component_configs import Timing

COMPLETE = "complete"


@dataclass(frozen=True)
class Remembered:
    """How a cluster was started; the content of cluster.json."""

    timing: Timing
    programs: dict[str, Path]
    filters_bridges: bool  # whether iptables rules are applied to bridged packets


def write(cluster: names.Cluster, remembered: Remembered) -> None:
    """Write cluster.json, which records how a cluster was started."""
    text = {
        "timing": asdict(remembered.timing),
        "programs": {name: str(path) for name, path in remembered.programs.items()},
        "filters_bridges": remembered.filters_bridges,
    }
    (cluster.state / "cluster.json").write_text(json.dumps(text, indent=1), encoding="utf-8")


def read(cluster: names.Cluster) -> Remembered:
    """Return how a cluster was started; raises KitError when cluster.json is missing.

    Without that file the cluster is not up.
    """
    try:
        text = json.loads((cluster.state / "cluster.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise commands_here.KitError(
            f"cluster {cluster.name!r} is not up: `make cluster NAME={cluster.name}` starts it"
        ) from error
    return Remembered(
        Timing(**text["timing"]),
        {name: Path(path) for name, path in text["programs"].items()},
        text["filters_bridges"],
    )


def set_complete(cluster: names.Cluster) -> None:
    """Record that the cluster has started completely."""
    (cluster.state / COMPLETE).touch()


def complete(cluster: names.Cluster) -> bool:
    """Whether the cluster has started completely; a run that was killed leaves it incomplete."""
    return (cluster.state / COMPLETE).exists()


def nodes(cluster: names.Cluster) -> list[names.Node]:
    """Return the nodes of a cluster that have a directory, sorted by index."""
    place = cluster.state / "nodes"
    directories = [path.name for path in place.iterdir()] if place.is_dir() else []
    return [cluster.node(index) for index in sorted(names.node_index(name) for name in directories)]


def kubectl(cluster: names.Cluster, *arguments: str, stdin: str = "") -> str:
    """Run the cluster's own kubectl as administrator, return its output; raises KitError."""
    command: list[str | Path] = [
        cluster.state / "bin/kubectl",
        f"--kubeconfig={cluster.state}/admin.conf",
        "--request-timeout=20s",
        *arguments,
    ]
    return commands_here.run(component_commands.inside(cluster.label, command), stdin=stdin)


def answers(cluster: names.Cluster) -> bool:
    """Whether the API server answers `/readyz` with success."""
    command: list[str | Path] = [
        cluster.state / "bin/kubectl",
        f"--kubeconfig={cluster.state}/admin.conf",
        "--request-timeout=3s",
        "get",
        "--raw=/readyz",
    ]
    return commands_here.succeeds(component_commands.inside(cluster.label, command))


def write_kubeconfig(cluster: names.Cluster, file: str, certificate: str, server: str) -> None:
    """Write a kubeconfig to STATE/FILE for the user whose certificate is pki/CERTIFICATE.crt.

    `server` is the URL of the API server.
    """
    pki = cluster.state / "pki"
    text = component_configs.kubeconfig(
        server,
        authority=(pki / "ca.crt").read_bytes(),
        certificate=(pki / f"{certificate}.crt").read_bytes(),
        key=(pki / f"{certificate}.key").read_bytes(),
    )
    path = cluster.state / file
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def write_user(
    cluster: names.Cluster,
    issuer: certificates.Authority,
    user: str,
    common_name: str,
    *organizations: str,
) -> None:
    """Make a certificate for a user or component, and its kubeconfig USER.conf."""
    pki = cluster.state / "pki"
    certificates.leaf(pki, issuer, user, common_name, organizations=organizations)
    write_kubeconfig(cluster, f"{user}.conf", user, api_url())


def api_url() -> str:
    """Return the API server's URL inside the cluster's network namespace."""
    return f"https://{names.API_ADDRESS}:{names.API_PORT}"


def remove(directory: Path) -> None:
    """Remove a directory and its content, if it exists."""
    if directory.exists():
        shutil.rmtree(directory)
