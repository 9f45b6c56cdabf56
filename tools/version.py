"""The version of the product: the file `VERSION` holds it, and other files repeat it.

``python -m tools.version`` prints the version, and fails if another file has a different one.
``python -m tools.version --set 0.2.0`` writes a new version to all these files.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[1]
SOURCE = "VERSION"
FORM = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
"""A valid version: three numbers, then the kind and number of a pre-release: 1.0.0rc1 (PEP 440)."""


class Place(NamedTuple):
    """A file that repeats the product's version, and the pattern that finds it there."""

    path: str
    pattern: str
    """A regular expression that finds the version as its group 1; it may match several times."""


PLACES = (
    Place("services/midstreamer/__init__.py", r'^__version__ = "([^"]+)"$'),
    Place("operator/midstreamer_operator/__init__.py", r'^__version__ = "([^"]+)"$'),
    Place("kernels/midstreamer_kernels/__init__.py", r'^__version__ = "([^"]+)"$'),
    Place("pyproject.toml", r'^version = "([^"]+)"$'),
    Place("charts/midstreamer/Chart.yaml", r'^(?:version|appVersion|    version): "?([^"\n]+)"?$'),
    Place(
        "charts/midstreamer/charts/midstreamer-definitions/Chart.yaml",
        r'^(?:version|appVersion): "?([^"\n]+)"?$',
    ),
    Place("charts/midstreamer-cluster/Chart.yaml", r'^(?:version|appVersion): "?([^"\n]+)"?$'),
    Place("charts/midstreamer-loadtest/Chart.yaml", r'^(?:version|appVersion): "?([^"\n]+)"?$'),
)


def stated(top: Path = TOP) -> str:
    """Return the version that `VERSION` states."""
    return (top / SOURCE).read_text(encoding="utf-8").strip()


def differences(top: Path = TOP) -> list[str]:
    """Return a line for each place where the version differs from that in `VERSION`."""
    wanted, found = stated(top), []
    for place in PLACES:
        text = (top / place.path).read_text(encoding="utf-8")
        versions = re.findall(place.pattern, text, re.MULTILINE)
        if not versions:
            found.append(f"{place.path} has no version where `tools.version` looks for it")
        found += [
            f"{place.path} says {version}, {SOURCE} says {wanted}"
            for version in versions
            if version != wanted
        ]
    return found


def write(version: str, top: Path = TOP) -> None:
    """Write a version to `VERSION` and all files that repeat it; ValueError if it is malformed."""
    if not FORM.fullmatch(version):
        raise ValueError(f"{version!r} is no version: give three numbers, as in 0.2.0 or 0.2.0rc1")
    for place in PLACES:
        path = top / place.path
        text = path.read_text(encoding="utf-8")
        path.write_text(
            re.sub(
                place.pattern, lambda found: _replaced(found, version), text, flags=re.MULTILINE
            ),
            encoding="utf-8",
        )
    (top / SOURCE).write_text(f"{version}\n", encoding="utf-8")


def _replaced(found: re.Match[str], version: str) -> str:
    before, after = found.start(1) - found.start(), found.end(1) - found.start()
    return found[0][:before] + version + found[0][after:]


def main(arguments: list[str] | None = None) -> int:
    """Print the version, or write a new one."""
    parser = argparse.ArgumentParser(prog="python -m tools.version", description=__doc__)
    parser.add_argument("--set", metavar="VERSION", help="write this version to every place")
    given = parser.parse_args(arguments)
    if given.set:
        try:
            write(given.set)
        except ValueError as error:
            print(f"tools.version: {error}", file=sys.stderr)
            return 2
    differing = differences()
    for difference in differing:
        print(difference, file=sys.stderr)
    print(stated())
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
