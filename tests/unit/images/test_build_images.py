"""Images are built again only when something changed; a script stands in for the image builder."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images import __main__ as command
from images import build_images
from images.build_images import Asked
from images.parts import Refused

BUILDER = """\
#!/bin/sh
echo "$@" >> {log}
case "$1" in
  build)
    case "$*" in *"--target=$(cat {log}.fails)"*) echo "no space left" >&2; exit 1;; esac
    echo sha256:0123 ;;
  inspect)
    case "$*" in *--format*) cat {log}.ids;; esac ;;
  push)
    file="${{4#docker-archive:}}"
    [ "$file" = "$4" ] || echo x > "${{file%%:*}}" ;;
esac
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a fake buildah, and let the build use an empty cache folder.

    The fake buildah writes each of its commands to a log. Return the path of this log.
    """
    log_file, programs = tmp_path / "log", tmp_path / "bin"
    programs.mkdir()
    (programs / "buildah").write_text(BUILDER.format(log=log_file))
    (programs / "buildah").chmod(0o755)
    log_file.with_suffix(".fails").write_text("nothing")
    log_file.with_suffix(".ids").write_text("sha256:first")
    (programs / "mmdebstrap").touch(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(build_images, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(build_images, "_fetch", lambda _, context: context.mkdir(exist_ok=True))
    return log_file


ASKED = Asked(builder="buildah", build_base="b", run_base="r")


def builds(log: Path) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line.startswith("build ")]


def test_the_same_sources_are_built_once(log: Path) -> None:
    folder = build_images.make(ASKED)
    again = build_images.make(ASKED)

    assert folder == again
    assert len(builds(log)) == 4
    recorded = json.loads((folder / "images.json").read_text())
    assert sorted(recorded["images"]) == ["agent", "loadtest", "postgres", "services"]
    assert recorded["images"]["agent"]["id"] == "0123"
    assert build_images.found()["images"]["agent"]["archive"] == str(
        folder / "midstreamer-agent.tar"
    )


@pytest.mark.parametrize("changed", [{"run_base": "other"}, {"tag": "mine"}])
def test_another_base_or_tag_is_built_anew(log: Path, changed: dict[str, Any]) -> None:
    build_images.make(ASKED)

    build_images.make(replace(ASKED, **changed))

    assert len(builds(log)) == 8


def test_bases_that_were_made_anew_make_the_images_anew_under_another_tag(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images on new base images need a new tag: nodes do not pull a tag that they have already."""
    monkeypatch.setattr(
        build_images, "_make_bases", lambda *_: log.with_suffix(".ids").write_text("sha256:second")
    )
    asked = Asked(builder="buildah")
    first = build_images.make(asked)
    assert build_images.make(asked) == first
    assert len(builds(log)) == 4

    second = build_images.make(replace(asked, fresh=True))

    assert len(builds(log)) == 8
    assert second != first
    assert build_images.found()["tag"] == second.name


def test_changed_sources_are_built_again_and_old_images_are_not_used(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_images.make(ASKED)
    contents = build_images._contents()
    changed = contents | {"services/midstreamer/new.py": b"x = 1\n"}
    monkeypatch.setattr(build_images, "_contents", lambda: changed)

    with pytest.raises(Refused, match="no images of the current sources: run `make images`"):
        build_images.found()
    build_images.make(ASKED)

    assert len(builds(log)) == 8
    assert (build_images.cache() / "context/services/midstreamer/new.py").read_bytes() == b"x = 1\n"


def test_a_build_that_failed_leaves_no_images(log: Path) -> None:
    log.with_suffix(".fails").write_text("postgres")

    with pytest.raises(Refused, match="no space left"):
        build_images.make(ASKED)

    with pytest.raises(Refused, match="no images"):
        build_images.found()
    log.with_suffix(".fails").write_text("nothing")
    build_images.make(ASKED)
    assert build_images.found()["images"]


def test_files_are_laid_out_with_one_time_so_that_layers_are_found_again(log: Path) -> None:
    build_images.make(ASKED)

    context = build_images.cache() / "context"
    files = [path for path in context.rglob("*") if path.is_file()]
    names = {path.relative_to(context).as_posix() for path in files}
    assert {"Containerfile", "install.py", "locks/agent.txt", "accounts/passwd"} <= names
    assert {
        "kernels/midstreamer_kernels/compile_ahead.py",
        "commands/midstreamer-operator",
    } <= names
    assert {"loadtests/locustfile.py", "locks/loadtest.txt"} <= names
    assert {path.stat().st_mtime for path in files} == {0}
    assert not [name for name in names if "__pycache__" in name]


def test_images_are_pushed_where_it_is_asked(log: Path) -> None:
    build_images.make(replace(ASKED, push="registry.example/team", tag="1"))

    pushed = [line for line in log.read_text().splitlines() if "docker://" in line]
    assert pushed == [
        f"push --quiet localhost/{name}:1 docker://registry.example/team/{name}:1"
        for name in (
            "midstreamer",
            "midstreamer-agent",
            "midstreamer-postgres",
            "midstreamer-loadtest",
        )
    ]


def test_only_the_newest_sets_are_kept(log: Path) -> None:
    for number in range(build_images.KEPT + 2):
        folder = build_images.make(replace(ASKED, tag=f"t{number}"))
        os.utime(folder, (number, number))

    kept = {path.parent.name for path in build_images.cache().glob("*/images.json")}
    assert kept == {"t2", "t3", "t4"}


def test_a_machine_without_a_builder_is_told_all_in_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["images"])

    with pytest.raises(SystemExit) as end:
        command.main()

    assert "a builder: buildah" in str(end.value)
    assert "apt-get install --no-install-recommends buildah mmdebstrap" in str(end.value)


def test_one_base_alone_is_refused(log: Path) -> None:
    with pytest.raises(Refused, match="set both BUILD_BASE and RUN_BASE, or neither"):
        build_images.make(Asked(run_base="r"))
