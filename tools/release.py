"""Make a release: write its version everywhere, build packages, images and charts, and tag it.

``make release VERSION=0.2.0`` builds everything into ``dist/0.2.0``. Then it commits the new
version and the changelog, and tags the commit ``v0.2.0``. It pushes and publishes nothing, but
prints the command that does. With ``ARGS=--dry-run`` it only prints the steps.

The checkout must be clean, so that the released files are built from what the tag names. When a
step fails, the files and the branch are restored: correct the error and run the command again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.cluster import cluster_guard
from tests.cluster.commands_here import KitError
from tools import version

TOP = version.TOP
PACKAGES = ("kernels", "services", "operator")
CHARTS = ("midstreamer", "midstreamer-cluster", "midstreamer-loadtest")


class Refused(Exception):
    """The requested release cannot be made; the message says why, and what to do."""


class Step(NamedTuple):
    """One step of a release."""

    says: str
    does: Callable[[], object]


def run(*command: object) -> str:
    """Run a command in the repository and return what it prints; raises Refused when it fails."""
    words = [str(word) for word in command]
    ended = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Refused(f"`{' '.join(words)}` failed: {(ended.stderr or ended.stdout).strip()}")
    return ended.stdout.strip()


def check(wanted: str) -> None:
    """Raise Refused if a version is malformed or tagged already, or the checkout is not clean."""
    if not version.FORM.fullmatch(wanted):
        raise Refused(f"VERSION={wanted}: give three numbers, as in 0.2.0 or 0.2.0rc1")
    if changed := run("git", "status", "--porcelain"):
        raise Refused(f"the checkout has changes; commit or remove them first:\n{changed}")
    if run("git", "tag", "--list", f"v{wanted}"):
        raise Refused(f"the tag v{wanted} exists; choose another version")
    if differing := version.differences():
        raise Refused("the version differs between files:\n" + "\n".join(differing))


def packages(folder: Path) -> None:
    """Build a wheel and an sdist of each of the three packages."""
    for name in PACKAGES:
        run(sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", folder / "python", name)


def charts(folder: Path) -> None:
    """Run `helm lint` on each chart, and then package the chart."""
    helm = cluster_guard.helm()
    for name in CHARTS:
        run(helm, "lint", "--quiet", f"charts/{name}")
        run(helm, "package", f"charts/{name}", "--destination", folder / "charts")


def steps(wanted: str) -> list[Step]:
    """Return the steps of a release, in order; the first step only checks and changes no file."""
    folder, python = TOP / "dist" / wanted, sys.executable
    return [
        Step("check version, tag and checkout", lambda: check(wanted)),
        Step("write the version to every place", lambda: version.write(wanted)),
        Step(
            "move the news from changelog.d to CHANGELOG.md",
            lambda: run(python, "-m", "towncrier", "build", "--yes", "--version", wanted),
        ),
        Step("write the generated pages", lambda: run(python, "-m", "tools.docs.generate")),
        Step("build wheels and sdists", lambda: packages(folder)),
        Step(
            "build the images, some minutes",
            lambda: run(python, "-m", "images", "--tag", wanted),
        ),
        Step("package the charts", lambda: charts(folder)),
        Step("commit", lambda: run("git", "commit", "--all", "--message", commit_of(wanted))),
        Step("tag", lambda: run("git", "tag", "--annotate", f"v{wanted}", "--message", wanted)),
    ]


class Checkout(NamedTuple):
    """Branch and commit of the checkout when a release began."""

    branch: str
    commit: str

    @classmethod
    def now(cls) -> Checkout:
        """Return branch and commit of the checkout; raises Refused if HEAD is on no branch."""
        return cls(run("git", "symbolic-ref", "--short", "HEAD"), run("git", "rev-parse", "HEAD"))

    def restore(self, wanted: str) -> str:
        """Undo what a release of the version ``wanted`` has changed; return what was done.

        If somebody else has committed or changed the branch meanwhile, nothing is undone.
        """
        by_hand = f"undo it by hand: `git reset --hard {self.commit}` on the branch {self.branch}"
        try:
            branch, commit = self.now()
            if commit != self.commit and run("git", "log", "-1", "--format=%s") == commit_of(
                wanted
            ):
                commit = run("git", "rev-parse", "HEAD^")
            if (branch, commit) != self:
                return f"the checkout has changed meanwhile; {by_hand}"
            run("git", "reset", "--quiet", "--hard", self.commit)
        except Refused as refused:
            return f"{refused}; {by_hand}"
        return "files and branch are as before"


def commit_of(wanted: str) -> str:
    """Return the message of the commit of a release."""
    return f"release: {wanted}"


def main(arguments: list[str] | None = None) -> int:
    """Make a release, step by step."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("version", help="the new version: 0.2.0, or 0.2.0rc1")
    parser.add_argument("--dry-run", action="store_true", help="check, and only tell the steps")
    given = parser.parse_args(arguments)
    first, *rest = steps(given.version)
    try:
        first.does()
        before = Checkout.now()
    except Refused as refused:
        print(f"release: {refused}", file=sys.stderr)
        return 2
    for number, step in enumerate(rest, 1):
        print(f"{number}/{len(rest)} {step.says}", flush=True)
        if given.dry_run:
            continue
        try:
            step.does()
        except (Refused, KitError, ValueError, OSError, KeyboardInterrupt) as error:
            print(f"release: {str(error) or 'interrupted'}", file=sys.stderr)
            print(f"release: {before.restore(given.version)}", file=sys.stderr)
            return 1
    if not given.dry_run:
        print(f"built in dist/{given.version}, images in .cache/images/{given.version}")
        print(f"publish the tag with: git push --follow-tags origin v{given.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
