"""What a builder is told.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from images import parts

BUILDERS = ("buildah", "podman", "docker")
"""In the order in which they are looked for."""
MAKES_BASES = "mmdebstrap"


def chosen(asked: str, there: Collection[str]) -> str:
    """Return the builder to take, of those that are there; "" without any, raises Refused."""
    if asked and asked not in BUILDERS:
        raise parts.Refused(f"BUILDER={asked}: it is one of {', '.join(BUILDERS)}")
    wanted = (asked,) if asked else BUILDERS
    return next((name for name in wanted if name in there), "")


def missing(
    builder: str, asked: str, there: Collection[str], *, own_bases: bool, root: bool
) -> list[str]:
    """Return all that this machine lacks, a line each; `there` are the commands it has."""
    packages, found = [], []
    if not builder:
        packages.append(asked if asked in ("buildah", "podman") else BUILDERS[0])
        others = "" if asked else f", or {' or '.join(BUILDERS[1:])}, with a daemon that answers"
        found.append(f"a builder: {asked or BUILDERS[0]}{others}")
    if own_bases and MAKES_BASES not in there:
        packages.append(MAKES_BASES)
        found.append(f"{MAKES_BASES} for the bases, or BUILD_BASE and RUN_BASE that name others")
    if packages:
        prefix = "" if root else "sudo "
        line = " ".join(sorted(packages))
        found.append(f"Debian packages: {prefix}apt-get install --no-install-recommends {line}")
    return found


def environment(builder: str, given: Mapping[str, str], *, root: bool) -> dict[str, str]:
    """Return what a builder needs in its environment beside what is there."""
    if builder == "docker":
        return {"DOCKER_BUILDKIT": "1"}
    if builder == "buildah" and root and "BUILDAH_ISOLATION" not in given:
        return {"BUILDAH_ISOLATION": "chroot"}  # it needs no namespaces, which a container may lack
    return {}


def build(
    builder: str, folder: str, file: str, reference: str, *, target: str = "",
    arguments: Mapping[str, str] | None = None,
) -> list[str]:  # fmt: skip
    """Return the command that builds one target; no base is fetched when it is here."""
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
    """Return the command that succeeds when an image is here."""
    inspect = ["inspect", "--type=image"] if builder == "buildah" else ["image", "inspect"]
    return [builder, *inspect, reference]


def identify(builder: str, reference: str) -> list[str]:
    """Return the command that prints the id of an image that is here."""
    if builder == "buildah":
        return [builder, "inspect", "--type=image", "--format={{.FromImageID}}", reference]
    return [builder, "image", "inspect", "--format={{.Id}}", reference]


def save(builder: str, reference: str, file: str) -> list[str]:
    """Return the command that writes an image into an archive, its layers not compressed."""
    if builder == "buildah":
        return [builder, "push", "--quiet", reference, f"docker-archive:{file}:{reference}"]
    form = ["--quiet", "--format=docker-archive"] if builder == "podman" else []
    return [builder, "save", *form, "--output", file, reference]


def push(builder: str, reference: str, to: str) -> list[list[str]]:
    """Return the commands that put an image into a registry."""
    if builder == "docker":
        return [[builder, "tag", reference, to], [builder, "push", "--quiet", to]]
    there = f"docker://{to}" if builder == "buildah" else to
    return [[builder, "push", "--quiet", reference, there]]


def remove(builder: str, references: Sequence[str]) -> list[str]:
    """Return the command that removes images by name."""
    return [builder, *(("rmi",) if builder == "buildah" else ("image", "rm")), *references]


def listed(builder: str) -> list[str]:
    """Return the command that lists the images that are here, a reference in each line."""
    if builder == "buildah":
        return [builder, "images", "--format={{.Name}}:{{.Tag}}"]
    return [builder, "image", "ls", "--format={{.Repository}}:{{.Tag}}"]
