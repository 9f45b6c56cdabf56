"""Build the programs of a test cluster, or find them built.

    CACHE/by-hash/COMPONENT-HASH/   the programs; the hash names all that they are built from
    CACHE/go/                       Go's own caches while something is built

Two builds at once wait for each other.  A component is built in a directory with a leading dot
that is renamed at the end: a build that dies leaves nothing that a later one takes for finished.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster import host, programs

UNUSED_S_MAX = 14 * 86_400
DOWNLOAD_ATTEMPTS = 3
DOWNLOAD_PAUSE_S = 5.0


def cache_directory() -> Path:
    """Where programs are kept: CLUSTER_CACHE, or the user's cache directory."""
    if named := os.environ.get("CLUSTER_CACHE"):
        return Path(named).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "midstreamer/cluster"


def sources(component: programs.Component) -> dict[str, bytes]:
    """The files that a component is built from, by name."""
    files = sorted((programs.SOURCES / component.name).iterdir())
    return {
        file.name: file.read_bytes() for file in files if file.suffix in (".mod", ".sum", ".go")
    }


def go_wanted() -> str:
    """The newest Go version that a component asks for."""
    texts = [sources(each)["go.mod"].decode() for each in programs.COMPONENTS]
    return max((programs.go_version(text) for text in texts), key=_numbers)


def directory(component: programs.Component, cache: Path) -> Path:
    """Where a component is once it is built."""
    found = programs.fingerprint(component, sources(component), platform.machine())
    return cache / "by-hash" / f"{component.name}-{found}"


def missing(cache: Path) -> tuple[str, ...]:
    """The components that are not in the cache."""
    parts = programs.COMPONENTS
    return tuple(each.name for each in parts if not directory(each, cache).is_dir())


def binaries(cache: Path) -> dict[str, Path]:
    """Every program of a cluster by name; raises KitError when one is not built."""
    if lacking := missing(cache):
        raise host.KitError(f"not built: {', '.join(lacking)}: run `make cluster` or its `build`")
    found: dict[str, Path] = {}
    for component in programs.COMPONENTS:
        found |= _of(component, cache)
    return found


def program(name: str, cache: Path | None = None) -> Path:
    """One program by its name, of a cluster or not; builds what is missing.  Raises KitError.

    Prometheus takes two minutes of two cores when it is built, and nothing when it is there.
    """
    place = cache or cache_directory()
    known = [*programs.COMPONENTS, *programs.OTHERS]
    component = next((each for each in known if name in each.binaries), None)
    if component is None:
        there = ", ".join(binary for each in known for binary in each.binaries)
        raise host.KitError(f"no program is called {name!r}: there are {there}")
    if not directory(component, place).is_dir():
        build(place, (component,))
    return _of(component, place)[name]


def built(name: str) -> Path | None:
    """One program by its name if it is in the cache: for tests that do without it."""
    known = [*programs.COMPONENTS, *programs.OTHERS]
    component = next(each for each in known if name in each.binaries)
    there = directory(component, cache_directory()) / name
    return there if there.is_file() else None


def _of(component: programs.Component, cache: Path) -> dict[str, Path]:
    place = directory(component, cache)
    os.utime(place)
    return {name: place / name for name in component.binaries}


def build(
    cache: Path,
    components: Sequence[programs.Component] = (),
    *,
    keep_go_cache: bool = False,
) -> dict[str, Path]:
    """Build what is missing, by default of a cluster; programs by name.  Raises KitError."""
    wanted = components or programs.COMPONENTS
    (cache / "by-hash").mkdir(parents=True, exist_ok=True)
    with host.locked(cache / "lock"):
        _drop_unfinished(cache)
        for component in wanted:
            if not directory(component, cache).is_dir():
                _build_component(component, cache)
        found = {name: path for each in wanted for name, path in _of(each, cache).items()}
        _drop_unused(cache)
        if not keep_go_cache:
            _drop_go_cache(cache)
    return found


def _build_component(component: programs.Component, cache: Path) -> None:
    if not shutil.which("go"):
        wanted = programs.go_version(sources(component)["go.mod"].decode())
        raise host.KitError(f"building {component.name} needs Go {wanted} or newer; there is none")
    host.say(f"building {component.name}")
    started_s = time.monotonic()
    place = programs.SOURCES / component.name
    environment = {**os.environ, **programs.go_environment(cache)}
    Path(environment["GOTMPDIR"]).mkdir(parents=True, exist_ok=True)
    _download(component, place, environment)
    downloaded_s = time.monotonic()
    unfinished = Path(tempfile.mkdtemp(prefix=f".{component.name}.", dir=cache / "by-hash"))
    flags = programs.linker_flags(component, (place / "go.mod").read_text(encoding="utf-8"))
    command = ["nice", "-n", "15", "go", "build", *_tags(component)]
    command += ["-ldflags", flags, "-o", f"{unfinished}/"]
    done = subprocess.run([*command, component.target], cwd=place, env=environment, check=False)
    if done.returncode:
        raise host.KitError(f"{component.name} could not be built, for the reason above")
    for name, wanted in component.renamed.items():
        (unfinished / name).rename(unfinished / wanted)
    _keep_files(component, place, unfinished, environment)
    lacking = [name for name in component.binaries if not (unfinished / name).is_file()]
    if lacking:
        raise host.KitError(f"{component.name} was built without {', '.join(lacking)}")
    unfinished.chmod(0o755)
    unfinished.rename(directory(component, cache))
    host.say(
        f"built {component.name}: {downloaded_s - started_s:.0f} s to download, "
        f"{time.monotonic() - downloaded_s:.0f} s to compile"
    )


def _download(component: programs.Component, place: Path, environment: dict[str, str]) -> None:
    # `go list -deps` fetches only what is compiled, `go mod download` everything that is named.
    command = ["go", "list", "-deps", *_tags(component), component.target]
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        if attempt < DOWNLOAD_ATTEMPTS:
            time.sleep(DOWNLOAD_PAUSE_S * attempt)
    raise host.KitError(
        f"the modules of {component.name} could not be fetched in {DOWNLOAD_ATTEMPTS} attempts "
        f"(GOPROXY says from where): {done.stderr.strip()[-800:]}"
    )


def _keep_files(
    component: programs.Component, place: Path, into: Path, environment: dict[str, str]
) -> None:
    if not component.files:
        return
    tool = programs.tool((place / "go.mod").read_text(encoding="utf-8"))
    asked = ["go", "list", "-f", "{{.Module.Dir}}", tool]
    told = subprocess.run(asked, cwd=place, env=environment, capture_output=True, check=True)
    module = Path(told.stdout.decode().strip())
    for name in component.files:
        shutil.copyfile(module / name, into / Path(name).name)


def _tags(component: programs.Component) -> list[str]:
    return ["-tags", ",".join(component.tags)] if component.tags else []


def _drop_unfinished(cache: Path) -> None:
    for left in (cache / "by-hash").glob(".*"):
        shutil.rmtree(left)


def _drop_unused(cache: Path) -> None:
    for place in (cache / "by-hash").iterdir():
        if time.time() - place.stat().st_mtime > UNUSED_S_MAX:
            shutil.rmtree(place)


def _drop_go_cache(cache: Path) -> None:
    place = cache / "go"
    if not place.exists():
        return
    subprocess.run(["chmod", "-R", "u+w", str(place)], check=False)  # modules are read-only
    shutil.rmtree(place)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
