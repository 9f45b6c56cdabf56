"""The programs of a test cluster, and the sources of each.

Pure: `tests.cluster.program_builds` compiles the programs.

A component is a directory below `programs/` with go.mod and go.sum, which pin the hash of every Go
module.  Some components have a main.go, which is built.  The other components, such as etcd and
Helm, have no code here: the `tool` directives in go.mod name the Go packages that are built.
Programs that a cluster does not need are in OTHERS and built only on request.
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
    """One or more programs that are built together from one directory."""

    name: str
    binaries: tuple[str, ...]
    target: str = "."  # what `go build` builds: a package
    # From the name that Go gives a program to the name that it gets here.
    renamed: Mapping[str, str] = field(default_factory=dict)
    version_module: str = ""  # the module whose version the programs report
    tags: tuple[str, ...] = ()  # tags for `go build`
    # Files to copy beside the built programs: paths in the Go module of the first `tool` package.
    files: tuple[str, ...] = ()


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

# CustomResourceDefinitions of the Prometheus operator: those that our chart uses, and those
# without which the operator does not start.
DEFINITIONS = tuple(
    f"monitoring.coreos.com_{plural}.yaml"
    for plural in ("podmonitors", "probes", "prometheuses", "prometheusrules", "servicemonitors")
)

# Components that a cluster does not need; `program_builds.program` builds one when it is asked for.
OTHERS = (
    Component(
        "prometheus",
        ("prometheus", "promtool"),
        target="tool",
        # Only service discovery by Kubernetes is built in: the clients of cloud providers would
        # be most of the program.
        tags=("remove_all_sd", "enable_kubernetes_sd"),
    ),
    # Jaeger receives traces by OTLP, keeps them in memory, and answers queries of the tests.
    Component("jaeger", ("jaeger",), target="tool"),
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
    """Return the environment variables for `go`; GOPROXY is left to the caller's environment."""
    return {
        "GOTOOLCHAIN": "local",  # fail, instead of downloading a newer Go
        "GOFLAGS": " ".join(FLAGS),
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        "GOMODCACHE": str(cache / "go/mod"),
        "GOCACHE": str(cache / "go/build"),
        "GOTMPDIR": str(cache / "go/tmp"),  # a killed `go build` leaves files here
    }


def linker_flags(component: Component, go_mod: str) -> str:
    """Return the linker's flags: no symbols, and the version that the programs report.

    Without a version, the API server reports v0.0.0-master, and Helm's kubeVersion checks fail.
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
    """Return the version in which a go.mod requires a module.

    Raises ValueError when the go.mod does not require the module.
    """
    line = re.compile(rf"^(?:require )?\s*{re.escape(module)} (v\S+)", re.MULTILINE)
    found = line.search(go_mod)
    if not found:
        raise ValueError(f"go.mod does not require {module}")
    return found[1]


def tool(go_mod: str) -> str:
    """Return the first package that `tool` directives of a go.mod name; ValueError if none does."""
    found = re.search(r"^tool (?:\(\s+)?(\S+)", go_mod, re.MULTILINE)
    if not found:
        raise ValueError("go.mod names no tool")
    return found[1]


def go_version(go_mod: str) -> str:
    """Return the Go version that a go.mod requires; raises ValueError if it names no version."""
    found = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    if not found:
        raise ValueError("go.mod names no Go version")
    return found[1]


def fingerprint(component: Component, sources: Mapping[str, bytes], architecture: str) -> str:
    """Return a hash, 16 hexadecimal digits, of a component's sources and build options.

    The Go version is no part of the hash, because a newer compiler alone is no reason for a new
    build of ten minutes.
    """
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode())
        digest.update(sources[name])
    flags = linker_flags(component, sources["go.mod"].decode())
    how = [*FLAGS, flags, component.target, architecture, *component.tags, *component.files]
    digest.update("\n".join(how).encode())
    return digest.hexdigest()[:16]
