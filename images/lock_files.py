"""Read the lock files, and decide which package goes into which image.  Pure functions.

The files `requirements/*.txt` are the only source of versions.  They are valid for several versions
of Python and several systems.  This module selects the lines for the images, keeps their hashes,
and drops their conditions (markers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.markers import Marker

from images import parts

FILES = ("run.txt", "operator.txt")
"""Lock files whose packages go into the images of a fleet."""
OWN = {"loadtest": "load.txt"}
"""Additional lock files, each for one target of the Containerfile.

Their packages go only into the image of this target.
"""
GLIBC_MINOR = 36
"""Minor version of glibc in the base image (2.36 in Debian 12); no wheel may need a newer glibc."""
_LINE = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>\S+)(?: ; (?P<marker>.+))?$")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """A pinned version of a package, with the hashes of its permitted files."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        """Return the pin as a line of a requirements file."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={one}" for one in self.hashes)])


def pins(text: str) -> Iterator[Pin]:
    """Yield the pins of a lock file; raise ValueError for a line without version or hash."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip() or line.startswith(("#", "    #")):
            continue
        head, _, _ = line.partition("--hash=")
        found, hashes = _LINE.match(head.strip()), tuple(_HASH.findall(line))
        if not found or not hashes:
            raise ValueError(f"not pinned by version and hash: {line[:80]}")
        yield Pin(found["name"], found["version"], found["marker"] or "", hashes)


def holds(marker: str, machine: str) -> bool:
    """Return whether a marker (a condition in a lock file) is true in the images.

    ``machine`` is the architecture as ``uname -m`` prints it.
    """
    there = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{parts.PYTHON}.0",
        "python_version": parts.PYTHON,
        "sys_platform": "linux",
    }
    return not marker or Marker(marker).evaluate(there)


def by_target(
    texts: Iterable[str], machine: str, own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the packages that go into each image, as the text of a requirements file.

    The keys of the result are the targets of the Containerfile; each target becomes one image.
    ``texts`` are the texts of the lock files for all images of a fleet.  ``own`` maps a target to
    the text of the additional lock file that only this target has.  Raise ValueError if two lock
    files pin a package differently.
    """
    chosen: dict[str, Pin] = {}
    for text in texts:
        _add(chosen, text, machine)
    lines: dict[str, list[str]] = {target: [] for target in parts.NAMES}
    for name in sorted(chosen.keys() - parts.NOWHERE):
        lines[_target(name)].append(str(chosen[name]))
    for target, text in (own or {}).items():
        pinned = dict(chosen)
        _add(pinned, text, machine)
        wanted = pinned.keys() - chosen.keys() - parts.NOWHERE | parts.STILL[target]
        lines[target] += [str(pinned[name]) for name in sorted(wanted & pinned.keys())]
    return {target: "".join(f"{line}\n" for line in some) for target, some in lines.items()}


def download(python: str, lock: str, wheels: str, machine: str) -> list[str]:
    """Return the pip command that downloads the wheels of a lock file for the images' platform."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    return [
        python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--only-binary=:all:", "--implementation=cp",
        f"--python-version={parts.PYTHON}", f"--abi=cp{parts.PYTHON.replace('.', '')}",
        "--abi=abi3", "--abi=none", *(f"--platform={each}" for each in platforms),
        "--dest", wheels, "--requirement", lock,
    ]  # fmt: skip


def wheel_names(locks: Mapping[str, str]) -> set[str]:
    """Return how the file name of every locked wheel starts: ``name-version-``, in lower case."""
    return {
        f"{pin.name.replace('-', '_').replace('.', '_')}-{pin.version}-".lower()
        for text in locks.values()
        for pin in pins(text)
    }


def _add(chosen: dict[str, Pin], text: str, machine: str) -> None:
    for pin in pins(text):
        if not holds(pin.marker, machine):
            continue
        other = chosen.setdefault(pin.name, pin)
        if (other.version, other.hashes) != (pin.version, pin.hashes):
            raise ValueError(f"{pin.name} is pinned as {other.version} and as {pin.version}")


def _target(name: str) -> str:
    if name in parts.ONLY_AGENT:
        return "agent"
    return "postgres" if name in parts.ONLY_POSTGRES else "services"
