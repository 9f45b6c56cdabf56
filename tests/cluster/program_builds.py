"""Build the programs of a test cluster, or find them in the cache.

    CACHE/by-hash/COMPONENT-HASH/   the programs; HASH is a hash of their sources and options
    CACHE/go/                       Go's own caches during a build

A lock prevents two builds at the same time.  A component is built in a directory whose name begins
with a dot, which is renamed at the end, so that an interrupted build is never mistaken for a
finished one.
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

from tests.cluster import commands_here, programs

UNUSED_S_MAX = 14 * 86_400
DOWNLOAD_ATTEMPTS = 3
DOWNLOAD_PAUSE_S = 5.0


def cache_directory() -> Path:
    """Return the directory of built programs: CLUSTER_CACHE, or the user's cache directory."""
    if named := os.environ.get("CLUSTER_CACHE"):
        return Path(named).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "midstreamer/cluster"


def sources(component: programs.Component) -> dict[str, bytes]:
    """Return the source files of a component, by file name."""
    files = sorted((programs.SOURCES / component.name).iterdir())
    return {
        file.name: file.read_bytes() for file in files if file.suffix in (".mod", ".sum", ".go")
    }


def go_wanted() -> str:
    """Return the newest Go version that any component requires."""
    texts = [sources(each)["go.mod"].decode() for each in programs.COMPONENTS]
    return max((programs.go_version(text) for text in texts), key=_numbers)


def directory(component: programs.Component, cache: Path) -> Path:
    """Return the directory of a component's programs, whether they are built or not."""
    found = programs.fingerprint(component, sources(component), platform.machine())
    return cache / "by-hash" / f"{component.name}-{found}"


def missing(cache: Path) -> tuple[str, ...]:
    """Return the names of a cluster's components that are not in the cache."""
    parts = programs.COMPONENTS
    return tuple(each.name for each in parts if not directory(each, cache).is_dir())


def binaries(cache: Path) -> dict[str, Path]:
    """Return the path of every program of a cluster by name; raises KitError if one is missing."""
    if lacking := missing(cache):
        raise commands_here.KitError(
            f"not built: {', '.join(lacking)}: run `make cluster` or"
            " `python -m tests.cluster build`"
        )
    found: dict[str, Path] = {}
    for component in programs.COMPONENTS:
        found |= _of(component, cache)
    return found


def program(name: str, cache: Path | None = None) -> Path:
    """Return the path of a program of `programs.COMPONENTS` or `programs.OTHERS`.

    The program is built if it is missing.  That can take long: for Prometheus, two minutes on two
    cores.  Raises KitError.
    """
    place = cache or cache_directory()
    known = [*programs.COMPONENTS, *programs.OTHERS]
    component = next((each for each in known if name in each.binaries), None)
    if component is None:
        known_names = ", ".join(binary for each in known for binary in each.binaries)
        raise commands_here.KitError(
            f"no program is called {name!r}: known programs are {known_names}"
        )
    if not directory(component, place).is_dir():
        build(place, (component,))
    return _of(component, place)[name]


def built(name: str) -> Path | None:
    """Return the path of a program if it is in the cache, else None; builds nothing."""
    known = [*programs.COMPONENTS, *programs.OTHERS]
    component = next(each for each in known if name in each.binaries)
    path = directory(component, cache_directory()) / name
    return path if path.is_file() else None


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
    """Build missing components, by default those of a cluster; raises KitError.

    Return the paths of all programs of these components by name.  Components that nobody used for
    UNUSED_S_MAX seconds are deleted from the cache.
    """
    wanted = components or programs.COMPONENTS
    (cache / "by-hash").mkdir(parents=True, exist_ok=True)
    with commands_here.locked(cache / "lock"):
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
        raise commands_here.KitError(
            f"building {component.name} needs Go {wanted} or newer; Go is not installed"
        )
    commands_here.say(f"building {component.name}")
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
        raise commands_here.KitError(
            f"{component.name} could not be built: see the output of Go above"
        )
    for name, wanted in component.renamed.items():
        (unfinished / name).rename(unfinished / wanted)
    _keep_files(component, place, unfinished, environment)
    lacking = [name for name in component.binaries if not (unfinished / name).is_file()]
    if lacking:
        raise commands_here.KitError(
            f"the build of {component.name} did not make {', '.join(lacking)}"
        )
    unfinished.chmod(0o755)
    unfinished.rename(directory(component, cache))
    commands_here.say(
        f"built {component.name}: {downloaded_s - started_s:.0f} s to download, "
        f"{time.monotonic() - downloaded_s:.0f} s to compile"
    )


def _download(component: programs.Component, place: Path, environment: dict[str, str]) -> None:
    # `go list -deps` downloads only the modules that are compiled; `go mod download` would
    # download all that go.mod names.
    command = ["go", "list", "-deps", *_tags(component), component.target]
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        if attempt < DOWNLOAD_ATTEMPTS:
            time.sleep(DOWNLOAD_PAUSE_S * attempt)
    raise commands_here.KitError(
        f"the Go modules of {component.name} could not be downloaded in {DOWNLOAD_ATTEMPTS} "
        f"attempts (GOPROXY names their source): {done.stderr.strip()[-800:]}"
    )


def _keep_files(
    component: programs.Component, place: Path, into: Path, environment: dict[str, str]
) -> None:
    if not component.files:
        return
    tool = programs.tool((place / "go.mod").read_text(encoding="utf-8"))
    asked = ["go", "list", "-f", "{{.Module.Dir}}", tool]
    listing = subprocess.run(asked, cwd=place, env=environment, capture_output=True, check=True)
    module = Path(listing.stdout.decode().strip())
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
