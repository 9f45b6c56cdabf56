"""Builds the images, keeps them as archives, and pushes them where they are wanted.

    .cache/images/context/    what the Containerfile is built in: wheels, locks, sources
    .cache/images/TAG/        an archive of each image, and images.json about them

What the images are made of is hashed: the same again is found and not built.
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

from images import bases, commands, locks, parts
from images.parts import Refused

TOP = Path(__file__).parents[1]
KEPT = 3
"""So many sets of archives are kept, the newest."""
MARK = "images.json"
UNFINISHED = ".unfinished"
FILES = ("Containerfile", "images/install.py", "images/parts.py", "LICENSE")


@dataclass(frozen=True)
class Asked:
    """What the person wants; empty is the default of each."""

    push: str = ""
    tag: str = ""
    builder: str = ""
    build_base: str = ""
    run_base: str = ""
    fresh: bool = False
    """Make the bases again: they take what Debian has published since."""


@dataclass(frozen=True)
class Wanted:
    """What images are made of, and what they will be called."""

    tag: str
    version: str
    made_of: str
    bases: tuple[str, str]
    """To build in, and to run on."""
    made_from: tuple[str, ...]
    """The bases again, and of our own the ids: made anew they have the same names."""
    contents: dict[str, bytes]
    """Files, by their path in the repository."""
    pinned: dict[str, str]
    """The lock of each target, as text for pip."""


@dataclass(frozen=True)
class Tools:
    """A builder that is there, and how it is called."""

    builder: str
    environment: dict[str, str]

    def run(self, command: Sequence[str]) -> str:
        """Run a command of the builder; raises Refused with its complaint."""
        return _run(command, self.environment)

    def has(self, reference: str) -> bool:
        """Whether an image is here."""
        command = commands.exists(self.builder, reference)
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False)  # noqa: S603
        return done.returncode == 0

    def identified(self, reference: str) -> str:
        """Return the id of an image that is here."""
        return self.run(commands.identify(self.builder, reference)).strip()


def say(text: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def cache() -> Path:
    """Where wheels, bases and archives are kept."""
    return (TOP / ".cache/images").resolve()


def found() -> dict[str, Any]:
    """Return what images.json says of the images of these very sources; raises Refused without any.

    Paths of archives are absolute.
    """
    contents, pinned = _contents(), _locks()
    for folder in _kept():
        told: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if told["made_of"] == _made_of(contents, pinned, told.get("bases", [])):
            for image in told["images"].values():
                image["archive"] = str(folder / image["archive"])
            return told
    raise Refused("there are no images of these sources: run `make images`")


def make(asked: Asked) -> Path:
    """Build what has changed; return the folder of the archives. Raises Refused."""
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
            for command in commands.push(tools.builder, image.reference, image.at(registry)):
                tools.run(command)
        _drop_old(tools)
        say(f"for the chart: image.registry={registry or '(empty)'}, image.tag={wanted.tag}")
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
    wanted = (*commands.BUILDERS, commands.MAKES_BASES)
    there = {name for name in wanted if shutil.which(name) and _answers(name)}
    builder = commands.chosen(asked.builder, there)
    if bool(asked.build_base) != bool(asked.run_base):
        raise Refused("BUILD_BASE and RUN_BASE are given together or not at all")
    lacking = commands.missing(
        builder, asked.builder, there, own_bases=not asked.build_base, root=root
    )
    if lacking:
        raise Refused("this machine lacks\n" + "\n".join(f"  {line}" for line in lacking))
    own = commands.environment(builder, os.environ, root=root)
    return Tools(builder, {**os.environ, **own})


def _answers(name: str) -> bool:
    # A client of docker without a daemon builds nothing.
    if name != "docker":
        return True
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0  # noqa: S607


def _with_bases(asked: Asked, tools: Tools) -> Asked:
    if asked.build_base:
        return asked
    source = (TOP / "images/bases.py").read_bytes()
    named = {base: bases.reference(base, platform.machine(), source) for base in bases.PACKAGES}
    wanted = [base for base, name in named.items() if asked.fresh or not tools.has(name)]
    if wanted:
        _make_bases({base: named[base] for base in wanted}, tools)
    return replace(asked, build_base=named[bases.BUILD], run_base=named[bases.RUN])


def _make_bases(wanted: dict[str, str], tools: Tools) -> None:
    begun_s = time.monotonic()
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    texts = {str(path): path.read_text(encoding="utf-8") for path in places if path.is_file()}
    some = bases.sources(texts)
    say(f"making {len(wanted)} base(s) of Debian {bases.SUITE}, from {', '.join(some)}")
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".bases-") as scratch:
        tars = {base: Path(scratch, f"{base}.tar") for base in wanted}
        _at_once([bases.command(base, str(tar), some) for base, tar in tars.items()])
        for base, tar in tars.items():
            folder = Path(scratch, base)
            folder.mkdir()
            (folder / "Containerfile").write_text(bases.CONTAINERFILE)
            with tar.open("rb") as old, (folder / "base.tar").open("wb") as new:
                bases.cleaned(old, new, base=base)
            tools.run(
                commands.build(
                    tools.builder, str(folder), str(folder / "Containerfile"), wanted[base]
                )
            )
    say(f"bases made in {time.monotonic() - begun_s:.0f} s")


def _locks() -> dict[str, str]:
    folder = TOP / "requirements"
    texts = [(folder / name).read_text(encoding="utf-8") for name in locks.FILES]
    own = {target: (folder / name).read_text("utf-8") for target, name in locks.OWN.items()}
    try:
        return locks.by_target(texts, platform.machine(), own)
    except ValueError as error:
        raise Refused(f"requirements: {error}") from error


def _contents() -> dict[str, bytes]:
    """Return every file that goes into an image or says how, by its path in the repository."""
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
        told = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    images = parts.images(wanted.tag)
    archives = all((folder / image.file).is_file() for image in images)
    here = not push or all(tools.has(image.reference) for image in images)
    return bool(told["made_of"] == wanted.made_of and archives and here)


def _build(wanted: Wanted, tools: Tools, folder: Path) -> None:
    context = cache() / "context"
    _fetch(wanted.pinned, context)
    _fill(context, wanted)
    unfinished = cache() / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    told = {
        "tag": wanted.tag,
        "made_of": wanted.made_of,
        "bases": wanted.made_from,
        "images": {
            image.target: _build_one(image, wanted, tools, context, unfinished)
            for image in parts.images(wanted.tag)
        },
    }
    (unfinished / MARK).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _build_one(
    image: parts.Image, wanted: Wanted, tools: Tools, context: Path, to: Path
) -> dict[str, Any]:
    build_base, run_base = wanted.bases
    arguments = {"BUILD_BASE": build_base, "RUN_BASE": run_base, "VERSION": wanted.version}
    begun_s = time.monotonic()
    printed = tools.run(
        commands.build(
            tools.builder, str(context), str(context / "Containerfile"), image.reference,
            target=image.target, arguments=arguments,
        )
    )  # fmt: skip
    built_s = time.monotonic()
    archive = to / image.file
    tools.run(commands.save(tools.builder, image.reference, str(archive)))
    say(
        f"{image.reference}: built in {built_s - begun_s:.1f} s, "
        f"kept in {time.monotonic() - built_s:.1f} s"
    )
    return {
        "reference": image.reference,
        "archive": image.file,
        "id": printed.split()[-1].removeprefix("sha256:"),
        "bytes": archive.stat().st_size,
    }


def _fetch(pinned: dict[str, str], context: Path) -> None:
    """Download the wheels that are not there, and drop those that no lock names."""
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
        locks.download(sys.executable, str(lock), str(wheels), platform.machine()), dict(os.environ)
    )
    begins = tuple(locks.wheel_names(pinned))
    for path in wheels.iterdir():
        if not path.name.lower().startswith(begins):
            path.unlink()
    mark.write_text(wanted, encoding="utf-8")
    size = sum(path.stat().st_size for path in wheels.iterdir())
    say(f"wheels fetched in {time.monotonic() - begun_s:.0f} s, {size / 1e6:.0f} MB")


def _fill(context: Path, wanted: Wanted) -> None:
    """Lay out what the Containerfile copies; times are all the same, so that layers are found."""
    for path in context.iterdir():
        if path.name != "wheels":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    files = {
        Path(name).name: wanted.contents[name] for name in ("Containerfile", "images/install.py")
    }
    files |= {f"locks/{target}.txt": text.encode() for target, text in wanted.pinned.items()}
    files |= {f"accounts/{name}": data for name, data in bases.account_files().items()}
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
    """Return the folders of archives, the newest first."""
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
    names = set(tools.run(commands.listed(tools.builder)).split())
    gone = [name for name in names if name.startswith(ours) and name.rpartition(":")[2] not in tags]
    for name in gone:  # one that a container still uses stays until the next time
        command = commands.remove(tools.builder, [name])
        subprocess.run(command, env=tools.environment, capture_output=True, check=False)  # noqa: S603


def _tell(folder: Path) -> None:
    told = json.loads((folder / MARK).read_text(encoding="utf-8"))
    for each in told["images"].values():
        say(f"{each['reference']}  {each['bytes'] / 1e6:.0f} MB  {folder / each['archive']}")


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip()[-1500:]
        raise Refused(f"`{' '.join(command[:6])} ...` ended with {done.returncode}: {complaint}")
    return done.stdout


def _at_once(some: list[list[str]]) -> None:
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603
        for command in some
    ]
    told = [process.communicate()[0] for process in started]
    for process, command, text in zip(started, some, told, strict=True):
        if process.returncode:
            raise Refused(f"{command[0]} ended with {process.returncode}: {text.strip()[-1500:]}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build, which holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
