"""Every command that the documentation shows is accepted by the command line, or runs for real.

Commands are read from the console blocks of all pages, from code spans that begin with
`midstreamer` or `midstreamer-k8s`, and from the examples in help texts. The command line parses
each of them, up to the point where it would start. The commands of the pages `CERTIFICATES` and
`DEPLOY` also run, in a temporary folder. A command of another program is listed in `OTHERS`, with
the reason why it does not run.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import typer.main

from midstreamer.cli import main
from midstreamer.cli.local_fleet import free_ports
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer_operator.k8s import cli as k8s

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
GENERATED = {"reference", "_build"}
CERTIFICATES, DEPLOY = "docs/how-to/certificates.md", "docs/how-to/deploy.md"
OTHERS = {
    "sudo apt install make git python3 python3-venv": "installs system packages",
    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout a1.key"
    " -out a1.csr      -subj /CN=a1 -addext"
    ' "subjectAltName=URI:spiffe://midstreamer.local/agent/a1"': "runs for real, below",
    "kubectl -n kube-system create configmap midstreamer-test-cluster": "marks a cluster for tests;"
    " tests/cluster/without_cluster/test_kit.py checks that the refusal shows it",
    **dict.fromkeys(
        (
            "helm install midstreamer-cluster charts/midstreamer-cluster --namespace kube-system"
            " --set 'installations[0].namespace=fleet,installations[0].release=mid'",
            "helm test mid --namespace fleet --logs",
            "kubectl create namespace fleet",
            "helm install mid charts/midstreamer --namespace fleet"
            " --set image.registry=registry.example.com/team --set image.tag=TAG",
            "kubectl --namespace fleet get pods",
            "kubectl --namespace fleet get agentpools -o wide",
            "kubectl --namespace fleet scale agentpool/mid-agent --replicas=4",
            "kubectl --namespace fleet wait --for=condition=Ready agentpool/mid-agent"
            " --timeout=120s",
            "helm upgrade mid charts/midstreamer --namespace fleet --reuse-values"
            " --set 'allowlist={client/app/*,client/desk-*}'"
            " --set coordinator.service.type=NodePort",
            "kubectl --namespace fleet get service mid",
            "export MIDSTREAMER_CLIENT__ADDRESSES=192.0.2.7:30269",
            "MIDSTREAMER_CLIENT__IDENTITY=client/desk-1 MIDSTREAMER_SECURITY__DIRECTORY=certs"
            " midstreamer status",
            "helm upgrade mid charts/midstreamer --namespace fleet --reuse-values"
            " --set 'allowlist={client/app/*}'",
            "helm upgrade midstreamer-cluster charts/midstreamer-cluster --namespace kube-system"
            " --values fleets.yaml",
            "kubectl label namespace app midstreamer.dev/fleet.mid=client",
            "kubectl --namespace app create configmap app --from-file=examples/in-cluster/app.py",
            "kubectl --namespace app apply -f examples/in-cluster/app.yaml",
            "kubectl --namespace app logs -f deployment/app",
            "kubectl --namespace fleet create rolebinding desk-1 --role=desk-1 --user=jane",
            "kubectl --namespace fleet create rolebinding jane-asks --role=mid-client --user=jane",
            "kubectl create clusterrolebinding jane-asks"
            " --clusterrole=midstreamer:fleet:mid:client --user=jane",
            "kubectl --namespace fleet create secret generic database"
            " --from-file=password=password.txt",
            "helm install mid charts/midstreamer --namespace fleet --set image.tag=TAG"
            " --set postgresql.enabled=false --set postgresql.existingSecret=database"
            "      --set 'postgresql.dsn=postgresql://midstreamer@db.example.com/midstreamer"
            "?sslmode=verify-full'",
            "kubectl --namespace fleet port-forward mid-coordinator-0 9090 &",
            "(while sleep 1; do kubectl --namespace fleet port-forward pod/mid-coordinator-0"
            " 7440:7401; done) &",
            "(while sleep 1; do kubectl --namespace fleet port-forward pod/mid-coordinator-1"
            " 7441:7401; done) &",
            "curl localhost:9090/readyz",
            "kind create cluster",
            "for image in midstreamer midstreamer-agent midstreamer-postgres; do kind load"
            " image-archive .cache/images/TAG/$image.tar; done",
            "helm install mid charts/midstreamer --namespace fleet --create-namespace --values"
            " charts/midstreamer/ci/kind.yaml --set image.tag=TAG --wait",
        ),
        "needs a cluster: tests/cluster/smoke runs it",
    ),
    **dict.fromkeys(
        (
            "kubectl --namespace fleet describe pods --selector app.kubernetes.io/component=agent",
            "kubectl --namespace fleet logs --selector app.kubernetes.io/component=agent"
            " --previous",
            "kubectl --namespace fleet logs --selector app.kubernetes.io/component=agent --tail=50",
            "kubectl --namespace fleet logs deployment/mid-sync --tail=50",
            "kubectl --namespace fleet logs mid-coordinator-0 --tail=50",
            "kubectl --namespace fleet logs mid-postgres-0 --tail=50",
            "kubectl --namespace fleet logs deployment/mid-operator",
            "kubectl --namespace fleet get lease",
            "kubectl get certificatesigningrequests",
            "kubectl --namespace fleet get events",
            "kubectl --namespace fleet get configmap mid-config -o yaml",
            "kubectl --namespace fleet get podmonitors,servicemonitors --show-labels",
            "kubectl --namespace fleet get pods -o wide",
            "kubectl --namespace fleet top pods",
            "curl localhost:9090/completez",
        ),
        "needs a cluster: a runbook's diagnosis",
    ),
    **dict.fromkeys(
        (
            "make load",
            'make load ARGS="--shape spike --users 100"',
            'make load ARGS="--threshold match.p99<=50ms --threshold failures<=0%"',
            'make load ARGS="--web"',
            'make load ARGS="curve --mix match=1 --chart curve.svg"',
            'make load ARGS="curve --mix match=1 --chart docs/pictures/load-match.svg"',
            'make load ARGS="curve --mix lookup=1 --chart docs/pictures/load-lookup.svg"',
            'make load ARGS="--shape mine.json --mix lookup=1 --profile profiles"',
            'make load ARGS="--shape mine.json --spacing constant --seed 7"',
        ),
        "takes minutes of load on a fleet; tests/integration/test_load.py covers it",
    ),
    **dict.fromkeys(
        (
            "kubectl label namespace loads midstreamer.dev/fleet.mid=client",
            "helm install load charts/midstreamer-loadtest --namespace loads"
            " --set image.tag=TAG,users=300,rate=60",
            "kubectl --namespace loads logs --follow job/load-master-1",
        ),
        "needs a cluster: `make load-cluster` does the same",
    ),
    **dict.fromkeys(
        ("make dashboards-live", "make traces"),
        "takes minutes with a fleet and a real Prometheus or Jaeger; it checks itself",
    ),
    **dict.fromkeys(
        (
            ".venv/bin/python -m tools.docs.generate",
            ".venv/bin/pytest -q tests/unit/protocol tests/unit/telemetry/test_label_values.py"
            " tests/unit/test_code_size.py",
            ".venv/bin/pytest -q tests/unit/client tests/unit/coordinator/test_request_checks.py"
            " tests/docs/test_drift.py",
            ".venv/bin/pytest -q tests/integration/test_fleet_in_one_process.py",
            ".venv/bin/pytest -q tests/docs/test_drift.py tests/unit/runtime/test_config.py"
            " tests/unit/coordinator/test_coordinator_config.py",
            ".venv/bin/pytest -q tests/conformance/carriers -k wss",
            ".venv/bin/pytest -q tests/unit/transport tests/unit/telemetry/test_label_values.py",
            ".venv/bin/lint-imports --no-logo",
            ".venv/bin/pytest -q tests/unit/kernels/test_twins.py"
            " tests/unit/kernels/test_lcss.py tests/unit/kernels/test_search.py",
            ".venv/bin/pytest -q tests/unit/kernels tests/conformance/kernels",
            ".venv/bin/pytest -q tests/unit/domain tests/unit/analogs"
            " tests/unit/agent/test_searching.py",
            ".venv/bin/pytest -q tests/unit/operator",
            ".venv/bin/pytest -q tests/docs/test_rights.py tests/docs/test_drift.py",
            ".venv/bin/pytest -q tests/unit/telemetry tests/unit/dashboards"
            " tests/docs/test_drift.py",
            ".venv/bin/python -m dashboards build",
            ".venv/bin/python -m dashboards lint",
            ".venv/bin/python -m dashboards test",
            ".venv/bin/pytest -q tests/unit/dashboards tests/docs",
            ".venv/bin/python -m dashboards alerts-live --only PoolShort --healthy 5",
        ),
        "checks of a change: docs/how-to/extend.md",
    ),
    "make images": "takes minutes; tests/unit/images and the tests in a cluster cover it",
    "make images PUSH=registry.example.com/team": "takes minutes, and this registry does not exist",
}
APPS = {"midstreamer": main.app, "midstreamer-k8s": k8s.app}
RUN_BY = {"README.md": "tests/docs/test_readme.py runs its sh block"}


class Shown(NamedTuple):
    """A command, and the page that shows it."""

    page: str
    command: str


def pages() -> list[Path]:
    written = [path for path in DOCS.rglob("*.md")
               if not GENERATED & set(path.relative_to(DOCS).parts)]  # fmt: skip
    return sorted([*TOP.glob("*.md"), *written])


def in_blocks(path: Path) -> Iterator[Shown]:
    text = path.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        if language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        if language in {"console", "sh", "bash", "shell"}:
            plain = [line.strip() for line in lines if line.strip() and line[0] != "#"]
            yield from (Shown(str(path.relative_to(TOP)), line) for line in plain)


def in_spans(path: Path) -> Iterator[Shown]:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`(midstreamer(?:-k8s)? [^`]+)`", text):
        yield Shown(str(path.relative_to(TOP)), " ".join(span.split()))


def in_help() -> Iterator[Shown]:
    def examples(command: Any, name: str) -> Iterator[Shown]:
        for found in re.findall(
            r"(?:Example: |- |`)(midstreamer(?:-k8s)? [^`\n]*)", command.help or ""
        ):
            yield Shown(f"{name} --help", found)
        for child_name, child in getattr(command, "commands", {}).items():
            yield from examples(child, f"{name} {child_name}")

    for name, app in APPS.items():
        yield from examples(typer.main.get_command(app), name)


BLOCKS = [shown for path in pages() for shown in in_blocks(path)]
SPANS = [shown for path in pages() for shown in in_spans(path)]
HELP = list(in_help())


def words_of(command: str) -> list[str] | None:
    """Return the words of a command of ours; None for another program.

    For `make run`, return the words of the `midstreamer run` command that it starts.
    """
    words = shlex.split(command.removesuffix("&"))
    if words[:2] == ["make", "run"]:
        (arguments,) = [word.removeprefix("ARGS=") for word in words[2:]] or [""]
        return ["midstreamer", "run", *shlex.split(arguments)]
    return words if words[0] in APPS else None


def parsed(words: list[str]) -> str:
    """Let the command line parse these words, and return the path of the command it finds.

    For example, the path is "midstreamer status". If the command line refuses the words, its
    exception is raised.
    """
    name, *words = words
    command: Any = typer.main.get_command(APPS[name])
    context = None
    while True:
        try:
            context = command.make_context(name, list(words), parent=context)
        except typer.Exit:  # help and --version end the command line here
            return f"{name} {' '.join(words)}"
        if not hasattr(command, "commands"):
            return str(context.command_path)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        name, command, words = command.resolve_command(context, rest)


def test_commands_are_found_on_every_kind_of_page() -> None:
    assert {shown.page for shown in BLOCKS} >= {"README.md", CERTIFICATES, DEPLOY}
    assert len(BLOCKS) >= 19
    assert len(HELP) >= 10


@pytest.mark.parametrize("shown", [*BLOCKS, *SPANS, *HELP], ids=lambda one: one.command[:60])
def test_a_command_that_is_shown_is_taken_by_the_command_line(shown: Shown) -> None:
    words = words_of(shown.command)
    if words is None:
        assert shown.command in OTHERS, f"{shown}: neither a midstreamer command nor in OTHERS"
        return
    assert parsed(words)


@pytest.mark.parametrize("words", [["sync", "--confg", "x"], ["run", "--agents", "x"], ["walk"]])
def test_a_command_that_would_be_refused_is_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"--confg|valid integer|'walk'"):
        parsed(["midstreamer", *words])


def test_every_exception_is_still_shown_somewhere() -> None:
    assert set(OTHERS) <= {shown.command for shown in BLOCKS}
    assert RUN_BY.keys() <= {shown.page for shown in BLOCKS}


# --- for real ------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A folder to run commands in, with ``midstreamer`` on its path."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str) -> str:
        """Run a command until it ends; return what it wrote to stdout."""
        ran = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, check=False,
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
        return ran.stdout

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command without waiting for its end."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                f"exec {command}", shell=True, cwd=self.folder, env=self.environment, stderr=log
            )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    sync, coordinator = (f"127.0.0.1:{port}" for port in free_ports(2))
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "midstreamer").write_text(f'#!/bin/sh\nexec {sys.executable} -m midstreamer "$@"\n')
    (bin_ / "midstreamer").chmod(0o755)
    ports = {
        "MIDSTREAMER_SYNC__LISTEN": sync,
        "MIDSTREAMER_COORDINATOR__SYNC": sync,
        "MIDSTREAMER_AGENT__SYNC": sync,
        "MIDSTREAMER_COORDINATOR__LISTEN": coordinator,
        "MIDSTREAMER_CLIENT__ADDRESSES": f'["{coordinator}"]',
        "MIDSTREAMER_CLIENT__REACH_S": "60",
    }
    return Place(tmp_path, {**os.environ, **ports, "PATH": f"{bin_}:{os.environ['PATH']}"})


@pytest.mark.integration
def test_the_commands_about_certificates_run_in_their_order(place: Place) -> None:
    outputs = [place.run(shown.command) for shown in BLOCKS if shown.page == CERTIFICATES]
    assert any("spiffe://midstreamer.local/client/me" in each for each in outputs)
    assert "a1.pem" in outputs[-1]


def a_file(path: Path, hours: int = 160) -> None:
    """Write a CSV file with two series: each repeats every 24 hours and has one tick an hour."""
    lines = [
        f"2024-01-{1 + hour // 24:02d}T{hour % 24:02d}:00:00Z,plant/b{number},"
        f"{80 + 5 * ((hour + number) % 24 - 12) ** 2 / 144:.3f}"
        for hour in range(hours) for number in (1, 2)
    ]  # fmt: skip
    path.write_text("\n".join(["time,series,value", *lines]) + "\n")


@pytest.mark.fleet
@pytest.mark.timeout(400)
def test_the_commands_of_the_deployment_guide_make_a_fleet_that_answers_those_of_the_tutorial(
    place: Place,
) -> None:
    shutil.copy(TOP / "config.toml", place.folder)
    a_file(place.folder / "my.csv")
    place.run("midstreamer certs init")
    place.run("midstreamer certs issue sync/sync-1 coordinator/c1 agent/a1 client/local")
    services = [place.start(shown.command) for shown in BLOCKS if shown.page == DEPLOY]
    try:
        outputs = [
            place.run(each) for each in ("midstreamer replay my.csv", "midstreamer match my.csv")
        ]
        outputs.append(place.run("midstreamer status"))
    except AssertionError as error:
        error.add_note((place.folder / "log").read_text()[-2000:])
        raise
    finally:
        for service in reversed(services):
            service.terminate()
            service.wait(60)
    try:
        outputs += [place.run(f"midstreamer db {verb}") for verb in ("migrate", "status", "check")]
    finally:
        asyncio.run(EmbeddedServer(place.folder / "var/store").erase())
    assert "320 ticks" in outputs[2]
    assert outputs[1].count("P(rise)") == 2
    assert "no stored value differs from its recomputed value" in outputs[-1]
