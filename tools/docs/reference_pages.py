"""Generate the pages of docs/reference from the code that they describe.

Each function returns the whole text of a page. `tools.docs.generate` writes the pages, and
tests/docs compares the written pages with the current code.
"""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, get_type_hints

import click
import msgspec
import typer.main
from pydantic_core import PydanticUndefined

from midstreamer.cli.main import app
from midstreamer.domain import decision, errors
from midstreamer.market import report as reports
from midstreamer.protocol import authorisation, connection, frames
from midstreamer.runtime import config
from midstreamer.security import refusal_reasons
from midstreamer.telemetry import label_values, metrics
from midstreamer_operator.k8s import cli as k8s
from midstreamer_operator.plan import denial_reasons as denials
from midstreamer_operator.plan import pools
from tools.docs import docstrings_of_code

NOTE = "<!-- Written by tools/docs/generate.py from the code; change it there. -->\n"


def _page(title: str, intro: str, parts: Iterator[str]) -> str:
    return "\n".join([NOTE, f"# {title}\n", f"{intro}\n", *parts]).rstrip() + "\n"


# --- settings -------------------------------------------------------------------------------------


def configuration() -> str:
    """Return the page of all settings."""
    intro = (
        "Values come from layers; a later layer overrides an earlier one: defaults, the file\n"
        "(`--config`, `$MIDSTREAMER_CONFIG`, or `config.toml` in the current folder), the\n"
        "environment, flags. `midstreamer config show` prints each value with its origin. An\n"
        "unknown key is refused, and the message names the most similar known key. A shared\n"
        "section such as `[telemetry]` applies to every process; `[agent.telemetry]` overrides\n"
        "it for agents."
    )
    return _page("Configuration", intro, (_section(cls) for cls in docstrings_of_code.settings()))


def _section(cls: type[config.Settings]) -> str:
    shared = [f"[{group.section}](#{group.section})" for group in config.groups(cls).values()]
    lines = [f"## {cls.section}\n", f"`[{cls.section}]` {docstrings_of_code.summary(cls)}\n"]
    if shared:
        lines.append(f"Also has the shared sections {', '.join(shared)}.\n")
    schema = cls.model_json_schema()
    for name in cls.model_fields:
        if name not in config.groups(cls):
            lines += _key(cls, name, schema["properties"][name])
    return "\n".join(lines)


def _key(cls: type[config.Settings], name: str, schema: dict[str, Any]) -> Iterator[str]:
    variable = f"{config.PREFIX}{cls.section.upper()}__{name.upper()}"
    default = (
        json.dumps(schema["default"]) if "default" in schema else "none: the setting is required"
    )
    yield f"### {cls.section}.{name}\n"
    yield f"{docstrings_of_code.one_line(cls.model_fields[name].description)}\n"
    yield f"Default `{default}` · {_kind(schema)} · environment `{variable}`\n"


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    words = {"string": "text", "integer": "whole number", "number": "number", "null": "none"}
    kind = words.get(schema.get("type", ""), schema.get("type", "one of a list"))
    limits = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "pattern": "matching `{}`",
    }
    bounds = [text.format(schema[key]) for key, text in limits.items() if key in schema]
    return ", ".join([kind, *bounds]).replace("|", "\\|")


def schema() -> str:
    """Return the JSON Schema of a configuration file."""
    sections = {cls.section: cls.model_json_schema() for cls in docstrings_of_code.settings()}
    shared: dict[str, Any] = {}
    for section in sections.values():
        # A "$ref" begins at the root of the document, so all "$defs" are moved to the root.
        shared |= section.pop("$defs", {})
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Midstreamer configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
        "$defs": shared,
    }
    return json.dumps(document, indent=2) + "\n"


def example() -> str:
    """Return the example config.toml: every key with its default, commented out."""
    lines = [
        "# Every setting of Midstreamer with its default: remove the # of a line to change it.",
        "# Layers: defaults < this file < environment (MIDSTREAMER_<SECTION>__<KEY>) < flags;",
        "# `midstreamer config show` prints each value with its origin.",
        "# Written by tools/docs/generate.py from the code;",
        "# see also docs/reference/configuration.md.",
    ]
    for cls in docstrings_of_code.settings():
        lines += ["", f"# {docstrings_of_code.summary(cls)}", f"[{cls.section}]"]
        for name, field in cls.model_fields.items():
            if name not in config.groups(cls):
                lines += _switched_off(name, field.description, _toml(field.get_default()))
        lines += [f"# [{cls.section}.{name}] overrides [{group.section}] for this section"
                  for name, group in config.groups(cls).items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def _switched_off(name: str, description: str | None, value: str) -> list[str]:
    plain = docstrings_of_code.one_line(description).replace("`", "")
    wrapped = textwrap.wrap(plain, 96, initial_indent="# ", subsequent_indent="# ")
    return [*wrapped, f"#{name} = {value}" if value else f"#{name} =    (not set)"]


def _toml(value: Any) -> str:
    """Return the default of a setting as TOML; "" if the setting has none."""
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {_toml(value[key])}' for key in value)}}}"
    return json.dumps(str(value))


# --- page of the JSON report that `midstreamer run` writes ----------------------------------------


def report() -> str:
    """Return the page of the JSON that ``midstreamer run --json`` writes."""
    intro = (
        "`midstreamer run --json FILE` writes the figures of its summary as one JSON object.\n"
        "`report_version` is incremented when the meaning of a field changes; new fields may be\n"
        "added at any time. Shares have a 95 % interval from a block bootstrap over time."
    )
    kinds = (reports.Report, reports.Part, reports.Share, reports.Latency, reports.Rival,
             reports.Kept)  # fmt: skip
    return _page("The report of a run", intro, (_object(kind) for kind in kinds))


def _object(kind: type[msgspec.Struct]) -> str:
    head = [f"## {kind.__name__}\n", f"{docstrings_of_code.one_line(kind.__doc__)}\n"]
    return (
        "\n".join([*head, "| field | type | default | |", "|---|---|---|---|", *_fields(kind)])
        + "\n"
    )


# --- errors, reasons ------------------------------------------------------------------------------


def error_codes() -> str:
    """Return the page of error codes and of the reasons of refusals and abstentions."""
    intro = (
        "The same word is used in the frame, the metric label and the log. A request that failed\n"
        "with `retry_after_s` may be retried after this time. For other errors, something must\n"
        "change before a retry can succeed."
    )
    return _page("Errors, refusals and abstentions", intro, _all_words())


def _all_words() -> Iterator[str]:
    yield "## Error codes\n"
    for code, kind in errors.BY_CODE.items():
        parent = kind.__mro__[1].__name__
        again = (
            "a retry may succeed"
            if issubclass(kind, errors.Unavailable)
            else "a retry does not help"
        )
        yield f"### {code}\n\n{docstrings_of_code.summary(kind)}\n"
        yield f"`{kind.__name__}`, a kind of `{parent}` · {again}\n"
    yield "## Refusals of a peer\n\nThe certificate is refused before any frame is read.\n"
    yield from _members(refusal_reasons.Reason)
    yield "## Refusals of a connection\n\nThe last frame of the connection names one of these.\n"
    yield from _members(connection.Code)
    yield f"### {authorisation.NOT_AUTHORISED}\n\nThe peer sent a frame that it may not send.\n"
    yield "## Abstentions\n\nWhy a decision gives no signal: the first reason that applies.\n"
    yield from _members(decision.Reason)
    yield "## Denials of the operator\n\nWhy a signing request gets no certificate.\n"
    yield from _members(denials.Reason)
    yield "## States of a pool of agents\n\nWhy an AgentPool is ready, or is not.\n"
    yield from _members(pools.Reason)


def _members(words: type[StrEnum]) -> Iterator[str]:
    descriptions = docstrings_of_code.attributes(words)
    for member in words:
        plain = f"{str(member).replace('_', ' ').capitalize()}."
        yield f"### {member}\n\n{descriptions.get(member.name) or plain}\n"


# --- metrics --------------------------------------------------------------------------------------


def metric_names() -> str:
    """Return the page of all metrics."""
    intro = (
        "Each process serves its metrics at `/metrics`, together with the standard metrics of a\n"
        "Python process. No label contains the name of a series, a value or the id of a peer."
    )
    return _page("Metrics", intro, (_metric(one) for one in metrics.CATALOGUE))


def _metric(one: metrics.Described) -> str:
    labels = (
        "; ".join(
            f"`{label}` ({_allowed(allowed)}; {metrics.OTHER} for any other word)"
            for label, allowed in one.labels.items()
        )
        or "none"
    )
    buckets = f" · buckets {', '.join(f'{edge:g}' for edge in one.buckets)}" if one.buckets else ""
    return f"## {one.name}\n\n{one.help}\n\n{one.kind} · labels: {labels}{buckets}\n"


def _allowed(allowed: label_values.Words | label_values.FirstNames) -> str:
    if isinstance(allowed, label_values.FirstNames):
        return allowed.what
    return ", ".join(
        "the version" if allowed is label_values.VERSIONS else each for each in sorted(allowed)
    )


# --- frames ---------------------------------------------------------------------------------------


def frame_types() -> str:
    """Return the page of all frames: their fields, and which peer may send them to which."""
    intro = (
        f"Version {frames.VERSION}, ALPN `{frames.ALPN}`. On the wire a frame is a big-endian\n"
        "32-bit length and a msgpack map whose key `frame` names the type. Unknown fields are\n"
        "ignored. A frame that the sender may not send to the receiver closes the connection."
    )
    return _page("Frames", intro, (_frame(kind) for kind in frames.FRAMES.values()))


def _frame(kind: type[frames.Frame]) -> str:
    role = "statement"
    if issubclass(kind, frames.Request):
        role = "request"
    elif issubclass(kind, frames.Answer):
        role = "answer"
    allowed = [f"{a} to {b}" for (a, b), may in authorisation.TABLE.items() if kind in may]
    who = "every peer while a connection is opened" if kind in authorisation.OPENING else ""
    lines = [
        f"## {kind.__name__}\n",
        f"{docstrings_of_code.one_line(kind.__doc__)}\n",
        f"{role} · {', '.join(allowed) or who or 'nobody yet'}\n",
        "| field | type | default | |",
        "|---|---|---|---|",
        *_fields(kind),
    ]
    return "\n".join(lines) + "\n"


def _fields(kind: type[msgspec.Struct]) -> Iterator[str]:
    descriptions, hints = docstrings_of_code.attributes(kind), get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else f"`{_default(field)}`"
        hint = _hint(hints[field.name])
        yield f"| `{field.name}` | {hint} | {default} | {descriptions.get(field.name, '')} |"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return repr(str(field.default) if isinstance(field.default, StrEnum) else field.default)
    return "{}" if field.default_factory is dict else "()"


def _hint(hint: Any) -> str:
    if isinstance(hint, type) and not getattr(hint, "__args__", ()):
        return hint.__name__
    return str(hint).replace("midstreamer.", "").replace("|", "\\|").replace(", ...", ", …")


# --- command line ---------------------------------------------------------------------------------


def command_line() -> str:
    """Return the page of all commands with their options."""
    root = typer.main.get_command(app)
    intro = "`midstreamer --help` shows the same on a terminal."
    in_cluster = typer.main.get_command(k8s.app)
    return _page(
        "Command line",
        intro,
        itertools.chain(
            _commands(root, "midstreamer", 2), _commands(in_cluster, "midstreamer-k8s", 2)
        ),
    )


def commands() -> list[str]:
    """Return the full names of all commands."""
    lines = command_line().splitlines()
    return [line.lstrip("# ") for line in lines if line.startswith("##")]


def _commands(command: Any, name: str, depth: int) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    for child_name in command.list_commands(context) if hasattr(command, "commands") else ():
        child = command.get_command(context, child_name)
        if child.hidden:
            continue
        yield "\n".join(_command(child, f"{name} {child_name}", depth))
        yield from _commands(child, f"{name} {child_name}", depth + 1)


def _command(command: Any, name: str, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} {name}\n"
    yield f"{_prose(command.help)}\n"
    rows = [row for row in map(_parameter, command.params) if row]
    if rows:
        yield "| option | default | |\n|---|---|---|"
        yield from rows
        yield ""


def _prose(text: str | None) -> str:
    return (text or "").replace("``", "`").replace("\b\n", "").strip()


def _parameter(parameter: Any) -> str:
    if getattr(parameter, "hidden", False) or parameter.name in ("help", "install_completion"):
        return ""
    shown = ", ".join(f"`{each}`" for each in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        shown = f"`{parameter.name.upper()}`"
    default = "" if parameter.default in (None, (), []) else f"`{_plain(parameter.default)}`"
    description = docstrings_of_code.one_line(getattr(parameter, "help", "")).replace("|", "\\|")
    return f"| {shown} | {default} | {description} |"


def _plain(value: Any) -> str:
    return str(value.value) if hasattr(value, "value") else str(value)
