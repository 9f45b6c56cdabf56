"""Generate the page of the charts' values from their schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tools.docs import chart_files

INTRO = """# Values of the charts

The values that `helm install` takes with `--values` and `--set`. `helm show values CHART` prints
the defaults with the same descriptions. A value that is not listed here is refused by name before
anything is installed. See [how to install](../how-to/cluster.md)."""
OF_CHART = {
    chart_files.FLEET: (
        "The fleet, in one namespace. The role `admin` of the namespace can install it."
    ),
    chart_files.CLUSTER: "The resources of the whole cluster; an administrator installs them once.",
    chart_files.LOADTEST: "A load test inside a cluster: see [how to](../how-to/load-testing.md).",
}


def page(note: str) -> str:
    """Return the page of the charts' values as Markdown; ``note`` is its first line."""
    generated = chart_files.generated()
    parts = [note, INTRO]
    for chart, description in OF_CHART.items():
        schema = json.loads(generated[chart / "values.schema.json"])
        parts += [f"## charts/{chart.name}", description, *_sections(schema)]
    return "\n\n".join(parts) + "\n"


def _sections(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of the values that are in no section, and then each section with its values."""
    sections = {key: each for key, each in schema["properties"].items() if "properties" in each}
    alone = {key: each for key, each in schema["properties"].items() if "examples" in each}
    yield _table({**schema, "properties": alone})
    for key, each in sections.items():
        if key == "config":
            link = "[settings of the processes](configuration.md)"
            held = ", ".join(f"`config.{name}`" for name in each["properties"])
            yield f"### {key}"
            yield f"{_cell(each['description'])} Its sections are {held}: {link}."
        else:
            yield f"### {key}"
            if each.get("description"):
                yield _cell(each["description"])
            yield _table(each, key)


def _table(schema: Mapping[str, Any], path: str = "") -> str:
    rows = ["| value | default | |", "|---|---|---|"]
    for name, each in _rows(schema, path):
        description = " ".join(filter(None, (_cell(each.get("description", "")), _allowed(each))))
        rows.append(f"| `{name}` | {_code(each.get('default'))} | {description} |")
    return "\n".join(rows)


def _rows(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, each in schema["properties"].items():
        here = f"{path}.{key}" if path else key
        if "examples" in each:
            yield here, each
        elif "properties" in each:
            yield from _rows(each, here)


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema and any(each not in schema["description"] for each in schema["enum"]):
        return "One of " + ", ".join(_code(each) for each in schema["enum"]) + "."
    if "maximum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}."
    return ""


def _code(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value or '""'
    return f"`{text}`".replace("|", "\\|")


def _cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table; "<" is escaped except within backticks."""
    parts = text.replace("|", "\\|").replace("\n", " ").split("`")
    parts[::2] = [each.replace("<", "\\<") for each in parts[::2]]
    return "`".join(parts)
