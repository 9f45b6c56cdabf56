"""Base images are made from the apt sources of the machine and contain only what is needed."""

import io
import tarfile

import pytest

from images import base_images
from images.parts import Refused

SOURCES = {
    "/etc/apt/sources.list.d/debian.sources": "URIs: x\nSuites: bookworm bookworm-updates\n",
    "/etc/apt/sources.list.d/other.sources": "Suites: nodistro\n",
    "/etc/apt/sources.list": "# deb x bookworm main\ndeb x trixie main\n",
    "/etc/apt/sources.list.d/old.list": "deb x bookworm main\n",
}


def test_only_sources_of_the_suite_are_taken() -> None:
    assert base_images.sources(SOURCES) == [
        "/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list.d/old.list",
    ]  # fmt: skip


def test_a_machine_without_the_suite_is_told_the_way_out() -> None:
    with pytest.raises(Refused, match="set both BUILD_BASE and RUN_BASE"):
        base_images.sources({"/etc/apt/sources.list": SOURCES["/etc/apt/sources.list"]})


def test_a_base_to_run_on_asks_for_no_installer() -> None:
    command = base_images.command(base_images.RUN, "x.tar", ["a.sources"])

    assert "--variant=extract" in command
    assert command[-3:] == ["bookworm", "x.tar", "a.sources"]
    included = next(word for word in command if word.startswith("--include="))
    assert not [word for word in included.split(",") if "venv" in word or "pip" in word]


def test_the_name_of_a_base_says_what_it_is_made_of() -> None:
    names = {
        base_images.reference(base_images.RUN, "x86_64", b"1"),
        base_images.reference(base_images.BUILD, "x86_64", b"1"),
        base_images.reference(base_images.RUN, "aarch64", b"1"),
        base_images.reference(base_images.RUN, "x86_64", b"2"),
    }

    assert len(names) == 4
    assert all(name.startswith("localhost/midstreamer-") for name in names)


def archive() -> io.BytesIO:
    packed = io.BytesIO()
    modes = {
        "./etc/resolv.conf": 0o644, "./etc/hostname": 0o644, "./dev/null": 0o666,
        "./usr/bin/python3.11": 0o755, "./bin/dash": 0o755, "./usr/bin/dpkg": 0o755,
        "./bin/su": 0o4755, "./usr/lib/x.so": 0o2664,
    }  # fmt: skip
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, mode in {"./tmp": 0o1777, "./var/tmp": 0o1777, "./usr/bin": 0o755}.items():
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, mode
            tar.addfile(member)
        for name, mode in modes.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, 3
            tar.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("./bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "dash"
        tar.addfile(link)
    packed.seek(0)
    return packed


def test_a_base_to_run_on_keeps_python_and_a_shell_and_no_rights() -> None:
    packed = io.BytesIO()

    base_images.cleaned(archive(), packed, base=base_images.RUN)

    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        modes = {member.name: member.mode for member in tar if not member.issym()}
        assert tar.getmember("./bin/sh").linkname == "dash"
        assert (tar.extractfile("./usr/lib/x.so") or io.BytesIO()).read() == b"abc"
    assert modes == {
        "./tmp": 0o1777, "./var/tmp": 0o755, "./usr/bin": 0o755, "./usr/bin/python3.11": 0o755,
        "./bin/dash": 0o755, "./usr/lib/x.so": 0o644,
    }  # fmt: skip


def test_a_base_to_build_in_keeps_its_programs() -> None:
    packed = io.BytesIO()

    base_images.cleaned(archive(), packed, base=base_images.BUILD)

    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        assert {"./usr/bin/dpkg", "./bin/su"} <= set(tar.getnames())
        assert tar.getmember("./bin/su").mode == 0o755
