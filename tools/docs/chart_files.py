"""Generate files of the charts: the schemas of values, and files that two charts share.

A schema says which values each key of a values.yaml may have. For the keys below ``config``, the
permitted values and the descriptions come from the classes of settings. For all other keys, the
permitted values come from `tools.docs.chart_values`, and the descriptions are the comments in
values.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tools.docs import chart_refusals, chart_values, docstrings_of_code

CHARTS = Path(__file__).parents[2] / "charts"
FLEET, CLUSTER = CHARTS / "midstreamer", CHARTS / "midstreamer-cluster"
LOADTEST = CHARTS / "midstreamer-loadtest"
ALL = (FLEET, CLUSTER, LOADTEST)
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PROCESSES = ("sync", "coordinator", "agent", "postgres", "telemetry", "security", "limits")
"""The sections of the settings that users may set below the key ``config`` of the chart."""
SET_BY_THE_CHART = {
    "sync": (
        "id",
        "listen",
        "advertise",
        "dsn",
        "password_file",
        "database_trust",
        "directory",
    ),
    "coordinator": ("id", "listen", "advertise", "outside_listen", "sync"),
    "agent": ("id", "sync"),
    "postgres": ("id", "listen", "directory", "names", "password_file"),
    "TelemetrySettings": ("listen",),
    "SecuritySettings": ("directory", "key", "release", "trust_domain", "allowlist"),
}
"""Settings that the chart sets itself, by the section or class that they belong to.

Users cannot set them below the key ``config``.
"""
SENTENCES = {
    "proxy": "empty, environment, or http://host:port without a name and a password",
    "traces_endpoint": "http://host:port or https://host:port, without a path, a name, a password",
}
"""For each setting with a pattern, a sentence that says what its value must be."""
UNKNOWN_HERE = "removed: there is no such key; `helm show values` prints all keys"
UNKNOWN_SETTING = (
    "removed: there is no such setting, or the chart sets it itself;"
    " docs/reference/configuration.md lists them"
)
_SHARED = {"telemetry": "TelemetrySettings", "security": "SecuritySettings"}


def generated() -> dict[Path, str]:
    """Return the path and the text of every generated file of the charts."""
    values = {
        FLEET: chart_values.fleet(_config()),
        CLUSTER: chart_values.cluster(),
        LOADTEST: chart_values.loadtest(),
    }
    document = {chart / "values.schema.json": _schema(chart, values[chart]) for chart in values}
    signing, pools = "templates/_signing.tpl", "agentpools.yaml"
    document[FLEET / signing] = (CLUSTER / signing).read_text(encoding="utf-8")
    definition = (CLUSTER / "templates" / pools).read_text(encoding="utf-8")
    document[FLEET / "charts/midstreamer-definitions/crds" / pools] = definition
    return document


def leaves(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path, such as ``image.tag``, and the schema of every value that has an example."""
    for key, value in schema["properties"].items():
        here = f"{path}.{key}" if path else key
        if "examples" in value:
            yield here, value
        elif "properties" in value:
            yield from leaves(value, here)


def comments(text: str) -> dict[str, str]:
    """Return the comment above each key of a values.yaml, by path, such as ``image.tag``."""
    found: dict[str, str] = {}
    above: list[str] = []
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("#"):
            above.append(bare.removeprefix("#").strip())
            continue
        key, colon, _ = bare.partition(":")
        if colon and not bare.startswith("-"):
            indent = len(line) - len(line.lstrip())
            path = [each for each in path if each[0] < indent] + [(indent, key)]
            found[".".join(name for _, name in path)] = " ".join(above)
        above = []
    return found


def _schema(chart: Path, values: dict[str, Any]) -> str:
    text = (chart / "values.yaml").read_text(encoding="utf-8")
    definitions = values["properties"].get("config", {}).pop("$defs", None)
    _describe(values, comments(text), yaml.safe_load(text), "")
    if chart == FLEET:  # Helm adds these keys, because the chart has a subchart
        values["properties"] |= {"global": {}, "midstreamer-definitions": {}}
    chart_refusals.in_words(values, {}, name=chart.name)
    values["additionalProperties"] = chart_refusals.refused(UNKNOWN_HERE)
    document = {"$schema": DIALECT, "title": f"Values of {chart.name}", **values}
    return json.dumps(document | ({"$defs": definitions} if definitions else {}), indent=1) + "\n"


def _describe(schema: dict[str, Any], told: dict[str, str], defaults: Any, path: str) -> None:
    for key, value in list(schema["properties"].items()):
        here = f"{path}.{key}" if path else key
        described = {"description": told[here], **value}
        schema["properties"][key] = described
        if "examples" in value:
            described["default"] = defaults[key]
        elif key != "config":
            _describe(described, told, defaults[key], here)


def _config() -> dict[str, Any]:
    """Return the schema of the key ``config``: settings that the chart does not set itself."""
    sections: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for cls in docstrings_of_code.settings():
        if cls.section in PROCESSES:
            document = cls.model_json_schema()
            shared |= document.pop("$defs", {})
            sections[cls.section] = _told(document, SET_BY_THE_CHART.get(cls.section, ()))
    for name, one in shared.items():
        shared[name] = _told(one, SET_BY_THE_CHART.get(name, ()))
    for one in (*sections.values(), *shared.values()):
        chart_refusals.in_words(one, SENTENCES, UNKNOWN_SETTING)
    for section, name in _SHARED.items():
        sections[section] = {"$ref": f"#/$defs/{name}"}
    return {**_closed(sections), "$defs": shared}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _told(schema: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON schema of a section of settings, without the keys in ``without``.

    The result marks no key as required.  A schema without keys is returned unchanged.
    """
    if "properties" not in schema:
        return schema
    left = {
        name: {key: value for key, value in one.items() if key not in {"title", "format"}}
        for name, one in schema["properties"].items()
        if name not in without
    }
    return {**_closed(left), "description": schema.get("description", "")}
