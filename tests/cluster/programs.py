"""The programs of a test cluster, and what each is built from.  Pure; `build` compiles.

A component is a directory below `programs/` with go.mod and go.sum, so that every module is
pinned with its hash.  Kubernetes, etcd, Helm and the checks of charts are named there as `tool`;
the others are a main.go.  What a cluster does not need is in OTHERS, and built by whoever asks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Component:
    """Programs that are built together."""

    name: str
    binaries: tuple[str, ...]
    target: str = "."  # what `go build` is asked for
    renamed: Mapping[str, str] = field(default_factory=dict)  # from what `go build` calls it
    version_module: str = ""  # the module whose version the programs report
    tags: tuple[str, ...] = ()  # build constraints
    files: tuple[str, ...] = ()  # kept beside the programs; paths in the module of the first tool


COMPONENTS = (
    Component(
        "kubernetes",
        (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        ),
        target="tool",
        version_module="k8s.io/kubernetes",
    ),
    Component("etcd", ("etcd",), target="tool", renamed={"server": "etcd"}),
    Component("coredns", ("coredns",)),
    Component("helm", ("helm",), target="tool"),
    Component("checks", ("kubeconform", "kube-score"), target="tool"),
    Component("probe", ("probe",)),
)

# Definitions of the Prometheus operator: what the chart makes, and what it does not start without.
DEFINITIONS = tuple(
    f"monitoring.coreos.com_{plural}.yaml"
    for plural in ("podmonitors", "probes", "prometheuses", "prometheusrules", "servicemonitors")
)

# Not of a cluster: `build.program` builds them when somebody asks for one.
OTHERS = (
    Component(
        "prometheus",
        ("prometheus", "promtool"),
        target="tool",
        # Only Kubernetes is asked for targets: the clients of clouds are most of the weight.
        tags=("remove_all_sd", "enable_kubernetes_sd"),
    ),
    Component(
        "prometheus-operator",
        ("prometheus-operator",),
        target="tool",
        renamed={"operator": "prometheus-operator"},
        files=tuple(f"example/prometheus-operator-crd/{name}" for name in DEFINITIONS),
    ),
)

# Without debug information a build needs 12 % less CPU and 21 % less disk (measured on etcd).
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")
VERSION_PACKAGE = "k8s.io/component-base/version"


def go_environment(cache: Path) -> dict[str, str]:
    """What `go` is told; where modules come from is the caller's GOPROXY."""
    return {
        "GOTOOLCHAIN": "local",  # a go.mod that wants a newer Go fails here, and fetches none
        "GOFLAGS": " ".join(FLAGS),
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        "GOMODCACHE": str(cache / "go/mod"),
        "GOCACHE": str(cache / "go/build"),
        "GOTMPDIR": str(cache / "go/tmp"),  # a killed `go build` leaves its files there
    }


def linker_flags(component: Component, go_mod: str) -> str:
    """What the linker is told: no symbols, and the version that the programs report.

    The API server says v0.0.0-master otherwise, on which Helm's kubeVersion checks fail.
    """
    words = ["-s", "-w"]
    if component.version_module:
        version = module_version(go_mod, component.version_module)
        major, minor, _ = version.removeprefix("v").split(".", 2)
        values = {
            "gitVersion": version,
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "clean",
        }
        words += [f"-X {VERSION_PACKAGE}.{name}={value}" for name, value in values.items()]
    return " ".join(words)


def module_version(go_mod: str, module: str) -> str:
    """The version of a module that a go.mod requires; raises ValueError."""
    line = re.compile(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", re.MULTILINE)
    found = line.search(go_mod)
    if not found:
        raise ValueError(f"go.mod does not require {module}")
    return found[1]


def tool(go_mod: str) -> str:
    """The first package that a go.mod names as `tool`; raises ValueError."""
    found = re.search(r"^tool (?:\(\s+)?(\S+)", go_mod, re.MULTILINE)
    if not found:
        raise ValueError("go.mod names no tool")
    return found[1]


def go_version(go_mod: str) -> str:
    """The Go version that a go.mod wants; raises ValueError."""
    found = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    if not found:
        raise ValueError("go.mod names no Go version")
    return found[1]


def fingerprint(component: Component, sources: Mapping[str, bytes], architecture: str) -> str:
    """Name what a component is built from and how: 16 hexadecimal digits.

    The Go version is left out: a newer compiler is no reason to build for ten minutes.
    """
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode())
        digest.update(sources[name])
    flags = linker_flags(component, sources["go.mod"].decode())
    how = [*FLAGS, flags, component.target, architecture, *component.tags, *component.files]
    digest.update("\n".join(how).encode())
    return digest.hexdigest()[:16]
