"""The default base images: Debian 12, from the apt sources of this machine.  Pure functions.

There are two base images.  The build base (`BUILD`) has venv and pip; it is used only while images
are built.  The run base (`RUN`) is the base of all our images.  It has only Python, its libraries
and a shell: no package manager, no coreutils, and no setuid program.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from typing import IO

from images import parts

SUITE = "bookworm"
BUILD, RUN = "build", "run"
VARIANTS = {BUILD: "minbase", RUN: "extract"}
"""For each base image, the variant of mmdebstrap that makes it."""
LIBRARIES = (
    "libbz2-1.0", "libc6", "libcom-err2", "libcrypt1", "libdb5.3", "libexpat1", "libffi8",
    "libgcc-s1", "libgssapi-krb5-2", "libk5crypto3", "libkeyutils1", "libkrb5-3",
    "libkrb5support0", "liblzma5", "libncursesw6", "libnsl2", "libreadline8", "libsqlite3-0",
    "libssl3", "libstdc++6", "libtinfo6", "libtirpc3", "libuuid1", "zlib1g",
)  # fmt: skip
PACKAGES = {
    BUILD: ("ca-certificates", "python3", "python3-venv"),
    RUN: (
        "base-files", "dash", "libpython3.11-minimal", "libpython3.11-stdlib", "media-types",
        "netbase", "python3-minimal", "python3.11-minimal", "tzdata", *LIBRARIES,
    ),
}  # fmt: skip
UNUSED = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/lintian/*",
    "/usr/share/bash-completion/*",
)  # fmt: skip
UNUSED_TO_RUN = (
    "/usr/lib/python3.11/ensurepip/*", "/usr/lib/python3.11/lib2to3/*",
    "/usr/lib/python3.11/distutils/*", "/usr/lib/python3.11/pydoc_data/*",
    "/usr/lib/x86_64-linux-gnu/gconv/*", "/usr/lib/aarch64-linux-gnu/gconv/*",
)  # fmt: skip
OF_THE_MACHINE = frozenset({"etc/resolv.conf", "etc/hostname", "etc/hosts"})
"""Files that mmdebstrap copies from the machine that it runs on; no base image has them."""
PROGRAM_FOLDERS = frozenset({"bin", "sbin", "usr/bin", "usr/sbin"})
PROGRAMS = frozenset({"dash", "python3", "python3.11", "sh"})
"""The only programs that the run base has; PostgreSQL needs the shell (dash, sh)."""
CONTAINERFILE = "FROM scratch\nADD base.tar /\n"


def sources(files: Mapping[str, str]) -> list[str]:
    """Return the paths of those apt source lists, such as sources.list, that name `SUITE`.

    ``files`` maps the path of each apt source list to its text.  Raise Refused if none of them
    names `SUITE`.
    """
    found = [path for path, text in sorted(files.items()) if SUITE in _words(text)]
    if not found:
        raise parts.Refused(
            f"no file in /etc/apt names the suite {SUITE}, which has Python {parts.PYTHON}: set "
            "both BUILD_BASE and RUN_BASE, for example to a Python image of your registry"
        )
    return found


def _words(text: str) -> set[str]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return {word for line in lines for word in line.split()}


def command(base: str, archive: str, some: list[str]) -> list[str]:
    """Return the command that builds a base image (`BUILD` or `RUN`) and writes it to a tar file.

    ``archive`` is the path of the tar file.  ``some`` has the paths of the apt source lists that
    say where the packages come from.
    """
    unused = (*UNUSED, *UNUSED_TO_RUN) if base == RUN else UNUSED
    return [
        "mmdebstrap", "--quiet", f"--variant={VARIANTS[base]}",
        *(f"--dpkgopt=path-exclude={path}" for path in unused),
        f"--include={','.join(PACKAGES[base])}", SUITE, archive, *some,
    ]  # fmt: skip


def reference(base: str, machine: str, source: bytes) -> str:
    """Return the name of a base image; its tag is a hash of ``source``, the text of this file."""
    made_of = parts.key({"base_images.py": source}, [base, machine])
    return f"{parts.LOCAL}/midstreamer-{base}-base:{made_of[:12]}"


def cleaned(given: IO[bytes], to: IO[bytes], *, base: str) -> None:
    """Copy the tar archive of a base image, without devices and without files of this machine.

    No file stays setuid or setgid, and only root may write outside of /tmp.  The run base keeps
    only the programs in `PROGRAMS`.  Its Debian packages, and the packages that they depend on,
    bring more programs, which are left out.
    """
    with tarfile.open(fileobj=given) as old, tarfile.open(fileobj=to, mode="w") as new:
        for member in old:
            name = member.name.removeprefix("./")
            folder, _, last = name.rpartition("/")
            if name in OF_THE_MACHINE or name.startswith("dev/"):
                continue
            if base == RUN and folder in PROGRAM_FOLDERS and last not in PROGRAMS:
                continue
            if not member.issym():
                member.mode = 0o1777 if name == "tmp" else member.mode & 0o755
            new.addfile(member, old.extractfile(member) if member.isreg() else None)


def account_files() -> dict[str, bytes]:
    """Return the texts of passwd and group: root, and the account that containers run as."""
    shell = "/usr/sbin/nologin"
    passwd = f"root:x:0:0:root:/root:{shell}\nmidstreamer:x:65532:65532::/tmp:{shell}\n"
    return {"passwd": passwd.encode(), "group": b"root:x:0:\nmidstreamer:x:65532:\n"}
