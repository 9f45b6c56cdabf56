"""Command lines for buildah, podman and docker.  Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from images import parts

BUILDERS = ("buildah", "podman", "docker")
"""Supported builders, in order of preference."""
MAKES_BASES = "mmdebstrap"
"""Name of the program that makes our own base images."""


def chosen(asked: str, there: Collection[str]) -> str:
    """Return the builder to use, or "" if none is installed; raise Refused for an unknown name."""
    if asked and asked not in BUILDERS:
        raise parts.Refused(f"BUILDER={asked}: give one of {', '.join(BUILDERS)}")
    wanted = (asked,) if asked else BUILDERS
    return next((name for name in wanted if name in there), "")


def missing(
    builder: str, asked: str, there: Collection[str], *, own_bases: bool, root: bool
) -> list[str]:
    """Return a line for each needed program that is missing, and the command to install them.

    ``there`` has the names of the programs that are installed and work.
    """
    packages, found = [], []
    if not builder:
        packages.append(asked if asked in ("buildah", "podman") else BUILDERS[0])
        others = "" if asked else f", or {' or '.join(BUILDERS[1:])}, with a daemon that answers"
        found.append(f"a builder: {asked or BUILDERS[0]}{others}")
    if own_bases and MAKES_BASES not in there:
        packages.append(MAKES_BASES)
        found.append(
            f"{MAKES_BASES} for the base images, or BUILD_BASE and RUN_BASE with other images"
        )
    if packages:
        prefix = "" if root else "sudo "
        line = " ".join(sorted(packages))
        found.append(f"Debian packages: {prefix}apt-get install --no-install-recommends {line}")
    return found


def environment(builder: str, given: Mapping[str, str], *, root: bool) -> dict[str, str]:
    """Return environment variables that a builder needs in addition to ``given``."""
    if builder == "docker":
        return {"DOCKER_BUILDKIT": "1"}
    if builder == "buildah" and root and "BUILDAH_ISOLATION" not in given:
        # This isolation needs no Linux namespaces. Inside a container they may be forbidden.
        return {"BUILDAH_ISOLATION": "chroot"}
    return {}


def build(
    builder: str, folder: str, file: str, reference: str, *, target: str = "",
    arguments: Mapping[str, str] | None = None,
) -> list[str]:  # fmt: skip
    """Return the command that builds a target; a base image that exists locally is not pulled."""
    named = {
        "buildah": ("--layers", "--force-rm", "--pull=false"),
        "podman": ("--layers", "--force-rm", "--pull=missing"),
    }
    return [
        builder, "build", "--quiet", *named.get(builder, ()),
        *(f"--build-arg={name}={text}" for name, text in (arguments or {}).items()),
        *((f"--target={target}",) if target else ()),
        "--tag", reference, "--file", file, folder,
    ]  # fmt: skip


def exists(builder: str, reference: str) -> list[str]:
    """Return a command whose exit code is 0 if an image exists on this machine."""
    inspect = ["inspect", "--type=image"] if builder == "buildah" else ["image", "inspect"]
    return [builder, *inspect, reference]


def identify(builder: str, reference: str) -> list[str]:
    """Return the command that prints the id of an image on this machine."""
    if builder == "buildah":
        return [builder, "inspect", "--type=image", "--format={{.FromImageID}}", reference]
    return [builder, "image", "inspect", "--format={{.Id}}", reference]


def save(builder: str, reference: str, file: str) -> list[str]:
    """Return the command that writes an image to an archive with uncompressed layers."""
    if builder == "buildah":
        return [builder, "push", "--quiet", reference, f"docker-archive:{file}:{reference}"]
    form = ["--quiet", "--format=docker-archive"] if builder == "podman" else []
    return [builder, "save", *form, "--output", file, reference]


def push(builder: str, reference: str, to: str) -> list[list[str]]:
    """Return the commands that push an image to a registry."""
    if builder == "docker":
        return [[builder, "tag", reference, to], [builder, "push", "--quiet", to]]
    there = f"docker://{to}" if builder == "buildah" else to
    return [[builder, "push", "--quiet", reference, there]]


def remove(builder: str, references: Sequence[str]) -> list[str]:
    """Return the command that removes images by name."""
    return [builder, *(("rmi",) if builder == "buildah" else ("image", "rm")), *references]


def listed(builder: str) -> list[str]:
    """Return the command that lists the images on this machine, a reference per line."""
    if builder == "buildah":
        return [builder, "images", "--format={{.Name}}:{{.Tag}}"]
    return [builder, "image", "ls", "--format={{.Repository}}:{{.Tag}}"]
