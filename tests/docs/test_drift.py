"""The documentation agrees with the code.

For example, every setting, error code, metric, frame and command of the code has its heading in the
reference.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from midstreamer.cli.settings import SECTIONS as OF_COMMANDS
from midstreamer.domain import decision, errors
from midstreamer.protocol import frames
from midstreamer.runtime import config
from midstreamer.security import refusal_reasons
from midstreamer.telemetry import metrics
from midstreamer_operator.plan import denial_reasons as denials
from midstreamer_operator.plan import pools
from tools.docs import docstrings_of_code, generate, reference_pages

TOP = Path(__file__).parents[2]
REFERENCE = TOP / "docs/reference"


def headings(name: str) -> set[str]:
    text = (REFERENCE / f"{name}.md").read_text(encoding="utf-8")
    return set(re.findall(r"^#+ (.+)$", text, re.MULTILINE))


def test_generated_files_say_what_the_code_says_now() -> None:
    assert [str(path.relative_to(TOP)) for path in generate.stale()] == []


def test_every_setting_has_its_heading_and_says_something() -> None:
    documented = headings("configuration")
    for cls in docstrings_of_code.settings():
        for name, field in cls.model_fields.items():
            if name not in config.groups(cls):
                assert f"{cls.section}.{name}" in documented
                assert field.description, f"{cls.section}.{name} has no description"


def test_every_section_of_the_list_has_a_class_and_the_reverse() -> None:
    assert tuple(cls.section for cls in docstrings_of_code.settings()) == config.SECTIONS
    assert set(OF_COMMANDS) <= set(config.SECTIONS)


def test_every_code_reason_metric_frame_and_command_has_its_heading() -> None:
    assert set(errors.BY_CODE) <= headings("errors")
    assert {str(reason) for reason in decision.Reason} <= headings("errors")
    assert {str(reason) for reason in refusal_reasons.Reason} <= headings("errors")
    assert {str(reason) for reason in denials.Reason} <= headings("errors")
    assert {str(reason) for reason in pools.Reason} <= headings("errors")
    assert {one.name for one in metrics.CATALOGUE} <= headings("metrics")
    assert set(frames.FRAMES) <= headings("frames")
    assert set(reference_pages.commands()) <= headings("command-line")


@pytest.mark.parametrize("verb", ["run", "sync", "coordinator", "agent", "replay", "match",
                                  "status", "certs init", "certs issue", "certs show"])  # fmt: skip
def test_the_promised_verbs_are_there(verb: str) -> None:
    assert f"midstreamer {verb}" in reference_pages.commands()


def test_every_abstention_explains_itself() -> None:
    texts = docstrings_of_code.attributes(decision.Reason)
    assert all(texts[reason.name] for reason in decision.Reason)


@pytest.mark.parametrize(
    "path", sorted((TOP / "docs/pictures").glob("*.svg")), ids=lambda p: p.stem
)
def test_every_picture_is_well_formed_and_has_a_title(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text


def rooms() -> set[str]:
    return {
        path.name
        for path in (TOP / "services/midstreamer").iterdir()
        if path.is_dir() and (path / "__init__.py").is_file()
    }


def test_architecture_names_every_room_and_no_other() -> None:
    text = (TOP / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### `services/midstreamer/(\w+)`$", text, re.MULTILINE)) == rooms()
    assert "### `operator/midstreamer_operator`" in text
    assert len(text.splitlines()) < 250


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(name: str) -> None:
    text = (TOP / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text)
    paths = re.findall(
        r"`((?:services|kernels|operator|docs|benchmarks|loadtests|tests|requirements)/[\w./-]+)`",
        text,
    )
    assert [each for each in [*links, *paths] if not (TOP / each).exists()] == []


def test_module_paths_of_the_tick_s_journey_exist() -> None:
    text = (TOP / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## 5")[2]
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", text.partition("## 6")[0])
    assert named
    assert [one for one in named if not (TOP / "services/midstreamer" / one).is_file()] == []


def test_the_example_configuration_loads_as_it_is() -> None:
    for cls in docstrings_of_code.settings():
        assert config.load(cls, config_file=TOP / "config.toml", environ={}) == cls()


def test_the_example_configuration_with_every_line_switched_on_changes_nothing() -> None:
    text = (TOP / "config.toml").read_text(encoding="utf-8")
    on = re.sub(r"^#(\w+ = )(?!   \(not set\))", r"\1", text, flags=re.MULTILINE)
    tables = tomllib.loads(on)
    for cls in docstrings_of_code.settings():
        assert cls(**tables[cls.section]) == cls()
        given = {name for name in cls.model_fields if name not in config.groups(cls)}
        missing = given - set(tables[cls.section])
        assert all(getattr(cls(), name) is None for name in missing)


def test_every_decision_record_has_its_four_parts() -> None:
    for path in (TOP / "docs/explanation/decisions").glob("0*.md"):
        text = path.read_text(encoding="utf-8")
        for part in ("Context", "Decision", "Consequences", "Alternatives"):
            assert f"**{part}.**" in text, f"{path.name} lacks {part}"


@pytest.mark.parametrize(
    "path", ["docs/reference/configuration.schema.json", "charts/midstreamer/values.schema.json"]
)
def test_every_reference_of_a_schema_leads_somewhere(path: str) -> None:
    schema = json.loads((TOP / path).read_text(encoding="utf-8"))
    named = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(schema)))

    assert named
    assert named <= schema["$defs"].keys()
