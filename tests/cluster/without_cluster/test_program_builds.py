"""The hash of every Go module of the programs is pinned, and an unfinished build is never used."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.cluster import commands_here, program_builds, programs

ALL = (*programs.COMPONENTS, *programs.OTHERS)


@pytest.mark.parametrize("component", ALL, ids=lambda c: c.name)
def test_sources_name_modules_and_hashes_but_no_host(component: programs.Component) -> None:
    files = program_builds.sources(component)

    assert {"go.mod", "go.sum"} <= set(files)
    assert [name for name, data in files.items() if re.search(rb"[a-z]://", data)] == []


def test_every_version_that_go_mod_requires_has_its_hash() -> None:
    for component in ALL:
        files = program_builds.sources(component)
        blocks = re.findall(r"^require \((.*?)^\)", files["go.mod"].decode(), re.M | re.S)
        required = re.findall(r"^\t(\S+ v\S+)", "".join(blocks), re.MULTILINE)
        pinned = {line.rpartition(b" ")[0].decode() for line in files["go.sum"].splitlines()}
        replaced = set(re.findall(r"^(?:replace )?\s*(\S+) =>", files["go.mod"].decode(), re.M))
        lacking = [
            m for m in required if f"{m}/go.mod" not in pinned and m.split()[0] not in replaced
        ]
        assert lacking == [], component.name


def test_the_fingerprint_changes_with_each_thing_that_is_built_from() -> None:
    component = programs.COMPONENTS[0]
    sources = program_builds.sources(component)
    same = programs.fingerprint(component, dict(reversed(sources.items())), "x86_64")

    others = [
        programs.fingerprint(component, {**sources, "go.sum": b""}, "x86_64"),
        programs.fingerprint(component, {**sources, "main.go": b""}, "x86_64"),
        programs.fingerprint(component, sources, "aarch64"),
        programs.fingerprint(programs.COMPONENTS[1], sources, "x86_64"),
    ]

    assert same == programs.fingerprint(component, sources, "x86_64")
    assert len({same, *others}) == 5


def test_programs_report_the_version_that_go_mod_pins() -> None:
    kubernetes = programs.COMPONENTS[0]

    flags = programs.linker_flags(kubernetes, program_builds.sources(kubernetes)["go.mod"].decode())

    assert re.search(r"-X k8s.io/component-base/version.gitVersion=v1\.\d+\.\d+ ", flags)
    assert "gitMajor=1 " in flags


def test_no_go_is_fetched_and_no_module_is_resolved_anew(tmp_path: Path) -> None:
    environment = programs.go_environment(tmp_path)

    assert environment["GOTOOLCHAIN"] == "local"
    assert "-mod=readonly" in environment["GOFLAGS"].split()
    assert not {"GOPROXY", "GOSUMDB"} & set(environment)


# A fake `go`; if FAIL is set, `go build` writes an unfinished program and ends with an error.
FAKE_GO = """#!/bin/sh
[ "$1" = build ] || exit 0
for word; do [ "$last" = -o ] && place=$word; last=$word; done
echo run >> "$COUNT"
echo half > "${place}probe"
[ -z "$FAIL" ] || exit 1
echo whole > "${place}probe"
echo "$@" > "${place}probe-beside"
"""


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    go = tmp_path / "bin/go"
    go.write_text(FAKE_GO, encoding="ascii")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    monkeypatch.setattr(programs, "COMPONENTS", (programs.COMPONENTS[-1],))
    monkeypatch.setattr(programs, "OTHERS", (programs.Component("coredns", ("probe-beside",)),))
    return tmp_path


def test_a_half_done_build_is_never_taken_for_done(
    fake_go: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = fake_go / "cache"
    monkeypatch.setenv("FAIL", "yes")
    with pytest.raises(commands_here.KitError, match="probe could not be built"):
        program_builds.build(cache)
    assert program_builds.missing(cache) == ("probe",)
    monkeypatch.setenv("FAIL", "")

    found = program_builds.build(cache)

    assert found["probe"].read_text(encoding="ascii") == "whole\n"
    assert len(list((cache / "by-hash").iterdir())) == 1
    assert sorted(path.name for path in cache.iterdir()) == ["by-hash", "lock"]


def test_what_is_built_is_not_built_again(fake_go: Path) -> None:
    cache = fake_go / "cache"

    first, second = program_builds.build(cache), program_builds.build(cache)

    assert first == second
    assert (fake_go / "count").read_text(encoding="ascii") == "run\n"


def test_programs_that_nobody_used_for_a_fortnight_go(fake_go: Path) -> None:
    cache = fake_go / "cache"
    old = cache / "by-hash/probe-of-last-month"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))

    program_builds.build(cache)

    assert not old.exists()


def test_a_program_that_is_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        commands_here.KitError, match="not built: kubernetes, etcd, coredns, helm, checks, probe"
    ):
        program_builds.binaries(tmp_path)


def test_what_no_cluster_needs_is_built_for_whoever_asks_for_it(fake_go: Path) -> None:
    cache = fake_go / "cache"
    program_builds.build(cache)
    assert not list((cache / "by-hash").glob("coredns-*"))

    first = program_builds.program("probe-beside", cache)
    again = program_builds.program("probe-beside", cache)

    assert first == again
    assert first.is_file()
    assert (fake_go / "count").read_text(encoding="ascii") == "run\n" * 2


def test_a_component_is_built_with_its_tags(fake_go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagged = programs.Component("coredns", ("probe-beside",), tags=("small", "still"))
    monkeypatch.setattr(programs, "OTHERS", (tagged,))

    arguments = program_builds.program("probe-beside", fake_go / "cache").read_text(
        encoding="ascii"
    )

    assert "-tags small,still" in arguments
    plain = programs.Component("coredns", ("probe-beside",))
    sources = program_builds.sources(tagged)
    assert programs.fingerprint(tagged, sources, "x") != programs.fingerprint(plain, sources, "x")


def test_a_program_that_nobody_knows_is_named_beside_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        commands_here.KitError, match="no program is called 'prom': known programs are .*promtool"
    ):
        program_builds.program("prom", tmp_path)


def test_a_machine_without_go_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(commands_here.KitError, match="building probe needs Go .* or newer"):
        program_builds.program("probe", tmp_path / "cache")
