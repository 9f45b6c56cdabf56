"""Build the images, write them to archives, and push them to a registry.

    .cache/images/context/    build context of the Containerfile: wheels, locks, sources
    .cache/images/TAG/        an archive of each image, and images.json with their description

The content of the images is hashed.  If archives with the same hash exist, nothing is built.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from images import base_images, container_commands, lock_files, parts
from images.parts import Refused

TOP = Path(__file__).parents[1]
KEPT = 3
"""Number of sets of image archives that are kept; older sets are removed."""
MARK = "images.json"
"""Name of the file that describes a set of image archives; only a finished set has it."""
UNFINISHED = ".unfinished"
"""Name of the folder in which a set of image archives is written until it is finished."""
FILES = ("Containerfile", "images/install.py", "images/parts.py", "LICENSE")


@dataclass(frozen=True)
class Asked:
    """Options of the command line; an empty value means the default."""

    push: str = ""
    tag: str = ""
    builder: str = ""
    build_base: str = ""
    run_base: str = ""
    fresh: bool = False
    """Whether to build our own base images again, with the newest packages of Debian."""


@dataclass(frozen=True)
class Wanted:
    """The content of the images to build, and their tag."""

    tag: str
    version: str
    made_of: str
    bases: tuple[str, str]
    """Names of the base image to build in and of the base image to run on."""
    made_from: tuple[str, ...]
    """Names of the base images; if we build them, also their ids.

    When we build a base image again, it keeps its name and gets a new id.
    """
    contents: dict[str, bytes]
    """Content of the files that go into the images, by their path in the repository."""
    pinned: dict[str, str]
    """Text of the requirements file of each image; the keys are targets of the Containerfile."""


@dataclass(frozen=True)
class Tools:
    """A builder (buildah, podman or docker) that is installed, and the environment to run it in."""

    builder: str
    environment: dict[str, str]

    def run(self, command: Sequence[str]) -> str:
        """Run a command of the builder and return its output; raise Refused if it fails."""
        return _run(command, self.environment)

    def has(self, reference: str) -> bool:
        """Return whether an image exists on this machine."""
        command = container_commands.exists(self.builder, reference)
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False)  # noqa: S603
        return done.returncode == 0

    def identified(self, reference: str) -> str:
        """Return the id of an image on this machine."""
        return self.run(container_commands.identify(self.builder, reference)).strip()


def say(text: str) -> None:
    """Print a line of progress to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def cache() -> Path:
    """Return the cache folder, with wheels, the build context and image archives."""
    return (TOP / ".cache/images").resolve()


def found() -> dict[str, Any]:
    """Return the description (images.json) of the images that were built from the current sources.

    Paths of archives are made absolute.  Raise Refused if there are no such images.
    """
    contents, pinned = _contents(), _locks()
    for folder in _kept():
        description: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if description["made_of"] == _made_of(contents, pinned, description.get("bases", [])):
            for image in description["images"].values():
                image["archive"] = str(folder / image["archive"])
            return description
    raise Refused("there are no images of the current sources: run `make images`")


def make(asked: Asked) -> Path:
    """Build the images if needed, push them if asked, and return the folder of the archives.

    Raise Refused if something is missing or a command fails.
    """
    registry = parts.registry(asked.push)
    tools = _tools(asked)
    with _locked(cache() / "lock"):
        based = _with_bases(asked, tools)
        named = (based.build_base, based.run_base)
        ids = [] if asked.build_base else [tools.identified(each) for each in named]
        wanted = _wanted(based, (*named, *ids))
        folder = cache() / wanted.tag
        if not _is_made(folder, wanted, tools, push=bool(registry)):
            _build(wanted, tools, folder)
        os.utime(folder)
        _tell(folder)
        for image in parts.images(wanted.tag) if registry else ():
            say(f"pushing {image.at(registry)}")
            for command in container_commands.push(
                tools.builder, image.reference, image.at(registry)
            ):
                tools.run(command)
        _drop_old(tools)
        say(f"values for the chart: image.registry={registry or '(empty)'}, image.tag={wanted.tag}")
    return folder


def _wanted(asked: Asked, made_from: tuple[str, ...]) -> Wanted:
    contents, pinned = _contents(), _locks()
    bases = (asked.build_base, asked.run_base)
    made_of = _made_of(contents, pinned, made_from)
    version = parts.version(contents["services/midstreamer/__init__.py"].decode())
    tag = parts.tag(asked.tag, version, made_of)
    return Wanted(tag, version, made_of, bases, made_from, contents, pinned)


def _tools(asked: Asked) -> Tools:
    root = os.geteuid() == 0
    wanted = (*container_commands.BUILDERS, container_commands.MAKES_BASES)
    there = {name for name in wanted if shutil.which(name) and _answers(name)}
    builder = container_commands.chosen(asked.builder, there)
    if bool(asked.build_base) != bool(asked.run_base):
        raise Refused("set both BUILD_BASE and RUN_BASE, or neither")
    lacking = container_commands.missing(
        builder, asked.builder, there, own_bases=not asked.build_base, root=root
    )
    if lacking:
        raise Refused("this machine lacks\n" + "\n".join(f"  {line}" for line in lacking))
    own = container_commands.environment(builder, os.environ, root=root)
    return Tools(builder, {**os.environ, **own})


def _answers(name: str) -> bool:
    # A docker client without a daemon cannot build, so its daemon is asked first.
    if name != "docker":
        return True
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0  # noqa: S607


def _with_bases(asked: Asked, tools: Tools) -> Asked:
    if asked.build_base:
        return asked
    source = (TOP / "images/base_images.py").read_bytes()
    named = {
        base: base_images.reference(base, platform.machine(), source)
        for base in base_images.PACKAGES
    }
    wanted = [base for base, name in named.items() if asked.fresh or not tools.has(name)]
    if wanted:
        _make_bases({base: named[base] for base in wanted}, tools)
    return replace(asked, build_base=named[base_images.BUILD], run_base=named[base_images.RUN])


def _make_bases(wanted: dict[str, str], tools: Tools) -> None:
    begun_s = time.monotonic()
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    texts = {str(path): path.read_text(encoding="utf-8") for path in places if path.is_file()}
    some = base_images.sources(texts)
    say(f"making {len(wanted)} base image(s) of Debian {base_images.SUITE}, from {', '.join(some)}")
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".bases-") as scratch:
        tars = {base: Path(scratch, f"{base}.tar") for base in wanted}
        _at_once([base_images.command(base, str(tar), some) for base, tar in tars.items()])
        for base, tar in tars.items():
            folder = Path(scratch, base)
            folder.mkdir()
            (folder / "Containerfile").write_text(base_images.CONTAINERFILE)
            with tar.open("rb") as old, (folder / "base.tar").open("wb") as new:
                base_images.cleaned(old, new, base=base)
            tools.run(
                container_commands.build(
                    tools.builder, str(folder), str(folder / "Containerfile"), wanted[base]
                )
            )
    say(f"base images made in {time.monotonic() - begun_s:.0f} s")


def _locks() -> dict[str, str]:
    folder = TOP / "requirements"
    texts = [(folder / name).read_text(encoding="utf-8") for name in lock_files.FILES]
    own = {target: (folder / name).read_text("utf-8") for target, name in lock_files.OWN.items()}
    try:
        return lock_files.by_target(texts, platform.machine(), own)
    except ValueError as error:
        raise Refused(f"requirements: {error}") from error


def _contents() -> dict[str, bytes]:
    """Return the content of every file that goes into or defines an image, by its path."""
    paths = [TOP / name for name in FILES]
    for package in parts.PACKAGES.values():
        paths += [path for path in (TOP / package).rglob("*") if path.is_file()]
    names = {path.relative_to(TOP).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if parts.is_source(name)}


def _made_of(contents: dict[str, bytes], pinned: dict[str, str], some: Sequence[str]) -> str:
    texts = {name: text.encode() for name, text in pinned.items()}
    return parts.key(contents | texts, [platform.machine(), *some])


def _is_made(folder: Path, wanted: Wanted, tools: Tools, *, push: bool) -> bool:
    try:
        description = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    images = parts.images(wanted.tag)
    archives = all((folder / image.file).is_file() for image in images)
    present = not push or all(tools.has(image.reference) for image in images)
    return bool(description["made_of"] == wanted.made_of and archives and present)


def _build(wanted: Wanted, tools: Tools, folder: Path) -> None:
    context = cache() / "context"
    _fetch(wanted.pinned, context)
    _fill(context, wanted)
    unfinished = cache() / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    description = {
        "tag": wanted.tag,
        "made_of": wanted.made_of,
        "bases": wanted.made_from,
        "images": {
            image.target: _build_one(image, wanted, tools, context, unfinished)
            for image in parts.images(wanted.tag)
        },
    }
    (unfinished / MARK).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _build_one(
    image: parts.Image, wanted: Wanted, tools: Tools, context: Path, to: Path
) -> dict[str, Any]:
    build_base, run_base = wanted.bases
    arguments = {"BUILD_BASE": build_base, "RUN_BASE": run_base, "VERSION": wanted.version}
    begun_s = time.monotonic()
    printed = tools.run(
        container_commands.build(
            tools.builder, str(context), str(context / "Containerfile"), image.reference,
            target=image.target, arguments=arguments,
        )
    )  # fmt: skip
    built_s = time.monotonic()
    archive = to / image.file
    tools.run(container_commands.save(tools.builder, image.reference, str(archive)))
    say(
        f"{image.reference}: built in {built_s - begun_s:.1f} s, "
        f"archived in {time.monotonic() - built_s:.1f} s"
    )
    return {
        "reference": image.reference,
        "archive": image.file,
        "id": printed.split()[-1].removeprefix("sha256:"),
        "bytes": archive.stat().st_size,
    }


def _fetch(pinned: dict[str, str], context: Path) -> None:
    """Download missing wheels, and remove wheels that no lock file names."""
    wheels, mark = context / "wheels", cache() / "wheels.key"
    wanted = parts.key({}, [*pinned.values(), platform.machine()])
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted and wheels.is_dir():
        return
    begun_s = time.monotonic()
    mark.unlink(missing_ok=True)
    wheels.mkdir(parents=True, exist_ok=True)
    lock = cache() / "wheels.txt"
    lock.write_text("".join(pinned.values()), encoding="utf-8")
    _run(
        lock_files.download(sys.executable, str(lock), str(wheels), platform.machine()),
        dict(os.environ),
    )
    begins = tuple(lock_files.wheel_names(pinned))
    for path in wheels.iterdir():
        if not path.name.lower().startswith(begins):
            path.unlink()
    mark.write_text(wanted, encoding="utf-8")
    size = sum(path.stat().st_size for path in wheels.iterdir())
    say(f"wheels downloaded in {time.monotonic() - begun_s:.0f} s, {size / 1e6:.0f} MB")


def _fill(context: Path, wanted: Wanted) -> None:
    """Write the build context; all file times are 0, so that the builder reuses its layers."""
    for path in context.iterdir():
        if path.name != "wheels":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    files = {
        Path(name).name: wanted.contents[name] for name in ("Containerfile", "images/install.py")
    }
    files |= {f"locks/{target}.txt": text.encode() for target, text in wanted.pinned.items()}
    files |= {f"accounts/{name}": data for name, data in base_images.account_files().items()}
    files |= {f"commands/{name}": data for name, data in parts.commands().items()}
    for name, data in wanted.contents.items():
        for package in parts.PACKAGES.values():
            if name.startswith(f"{package}/"):
                files[name] = data
    for name, data in files.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_bytes(data)
    for path in context.rglob("*"):
        if "wheels" not in path.relative_to(context).parts:
            os.utime(path, (0, 0))


def _kept() -> list[Path]:
    """Return the folders with a set of image archives, newest first."""
    marks = cache().glob(f"[!.]*/{MARK}")
    return [mark.parent for mark in sorted(marks, key=_age_s)]


def _age_s(mark: Path) -> float:
    return -mark.parent.stat().st_mtime


def _drop_old(tools: Tools) -> None:
    kept, old = _kept()[:KEPT], _kept()[KEPT:]
    for folder in old:
        shutil.rmtree(folder)
    tags = {folder.name for folder in kept}
    ours = tuple(f"{parts.LOCAL}/{name}:" for name in parts.NAMES.values())
    names = set(tools.run(container_commands.listed(tools.builder)).split())
    gone = [name for name in names if name.startswith(ours) and name.rpartition(":")[2] not in tags]
    # An image in use cannot be removed. The failure is ignored: a later run removes the image.
    for name in gone:
        command = container_commands.remove(tools.builder, [name])
        subprocess.run(command, env=tools.environment, capture_output=True, check=False)  # noqa: S603


def _tell(folder: Path) -> None:
    description = json.loads((folder / MARK).read_text(encoding="utf-8"))
    for each in description["images"].values():
        say(f"{each['reference']}  {each['bytes'] / 1e6:.0f} MB  {folder / each['archive']}")


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip()[-1500:]
        raise Refused(
            f"`{' '.join(command[:6])} ...` failed with exit code {done.returncode}: {complaint}"
        )
    return done.stdout


def _at_once(some: list[list[str]]) -> None:
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603
        for command in some
    ]
    outputs = [process.communicate()[0] for process in started]
    for process, command, text in zip(started, some, outputs, strict=True):
        if process.returncode:
            raise Refused(
                f"{command[0]} failed with exit code {process.returncode}: {text.strip()[-1500:]}"
            )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build, which holds the lock {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
