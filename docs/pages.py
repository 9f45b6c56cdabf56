"""The pages of docs/reference that are written by the code they describe.

Each function returns the whole text of one page.  `docs.generate` writes them; tests/docs
compares what is written with what the code would say now.
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

from docs import reading
from midstreamer.cli.main import app
from midstreamer.domain import decision, errors
from midstreamer.market import report as reports
from midstreamer.protocol import authorisation, connection, frames
from midstreamer.runtime import config
from midstreamer.security import reasons
from midstreamer.telemetry import metrics, words
from midstreamer_operator.k8s import cli as k8s
from midstreamer_operator.plan import pools
from midstreamer_operator.plan import reasons as denials

NOTE = "<!-- Written by docs/generate.py from the code; change it there. -->\n"


def _page(title: str, intro: str, parts: Iterator[str]) -> str:
    return "\n".join([NOTE, f"# {title}\n", f"{intro}\n", *parts]).rstrip() + "\n"


# --- settings -------------------------------------------------------------------------------------


def configuration() -> str:
    """Every section and key."""
    intro = (
        "Values are layered: defaults, then the file (`--config`, `$MIDSTREAMER_CONFIG`, or\n"
        "`config.toml` where you are), the environment, flags. `midstreamer config show`\n"
        "prints each value with its origin. Unknown keys are refused with the nearest known one.\n"
        "A shared section such as `[telemetry]` holds for every process; `[agent.telemetry]`\n"
        "narrows it to agents."
    )
    return _page("Configuration", intro, (_section(cls) for cls in reading.settings()))


def _section(cls: type[config.Settings]) -> str:
    shared = [f"[{group.section}](#{group.section})" for group in config.groups(cls).values()]
    lines = [f"## {cls.section}\n", f"`[{cls.section}]` {reading.summary(cls)}\n"]
    if shared:
        lines.append(f"Takes part in the shared sections {', '.join(shared)}.\n")
    schema = cls.model_json_schema()
    for name in cls.model_fields:
        if name not in config.groups(cls):
            lines += _key(cls, name, schema["properties"][name])
    return "\n".join(lines)


def _key(cls: type[config.Settings], name: str, schema: dict[str, Any]) -> Iterator[str]:
    variable = f"{config.PREFIX}{cls.section.upper()}__{name.upper()}"
    default = json.dumps(schema["default"]) if "default" in schema else "none: it must be given"
    yield f"### {cls.section}.{name}\n"
    yield f"{reading.one_line(cls.model_fields[name].description)}\n"
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
    told = [text.format(schema[key]) for key, text in limits.items() if key in schema]
    return ", ".join([kind, *told]).replace("|", "\\|")


def schema() -> str:
    """JSON Schema of a whole configuration file."""
    sections = {cls.section: cls.model_json_schema() for cls in reading.settings()}
    shared: dict[str, Any] = {}
    for section in sections.values():
        shared |= section.pop("$defs", {})  # references lead to the root of the document
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Midstreamer configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
        "$defs": shared,
    }
    return json.dumps(made, indent=2) + "\n"


def example() -> str:
    """The commented config.toml: every key at its default, switched off."""
    lines = [
        "# Every setting of Midstreamer at its default: take the # from a line to change it.",
        "# Layers: defaults < this file < environment (MIDSTREAMER_<SECTION>__<KEY>) < flags;",
        "# `midstreamer config show` prints each value and where it came from.",
        "# Written by docs/generate.py from the code; docs/reference/configuration.md says more.",
    ]
    for cls in reading.settings():
        lines += ["", f"# {reading.summary(cls)}", f"[{cls.section}]"]
        for name, field in cls.model_fields.items():
            if name not in config.groups(cls):
                lines += _switched_off(name, field.description, _toml(field.get_default()))
        lines += [f"# [{cls.section}.{name}] narrows [{group.section}] to this section"
                  for name, group in config.groups(cls).items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def _switched_off(name: str, told: str | None, value: str) -> list[str]:
    plain = reading.one_line(told).replace("`", "")
    wrapped = textwrap.wrap(plain, 96, initial_indent="# ", subsequent_indent="# ")
    return [*wrapped, f"#{name} = {value}" if value else f"#{name} =    (not set)"]


def _toml(value: Any) -> str:
    """A default as TOML; "" for what has none."""
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {_toml(value[key])}' for key in value)}}}"
    return json.dumps(str(value))


# --- the report of a run --------------------------------------------------------------------------


def report() -> str:
    """What `midstreamer run --json` writes."""
    intro = (
        "`midstreamer run --json FILE` writes the figures of its summary, one object as below.\n"
        "`report_version` rises when a field changes its meaning; new fields may come any time.\n"
        "Shares carry a 95 % interval from a block bootstrap over time."
    )
    kinds = (reports.Report, reports.Part, reports.Share, reports.Latency, reports.Rival,
             reports.Kept)  # fmt: skip
    return _page("The report of a run", intro, (_object(kind) for kind in kinds))


def _object(kind: type[msgspec.Struct]) -> str:
    head = [f"## {kind.__name__}\n", f"{reading.one_line(kind.__doc__)}\n"]
    return (
        "\n".join([*head, "| field | type | default | |", "|---|---|---|---|", *_fields(kind)])
        + "\n"
    )


# --- errors, reasons ------------------------------------------------------------------------------


def error_codes() -> str:
    """Every error code, and every word that a refusal or an abstention may give."""
    intro = (
        "The same word stands in the frame, the metric label and the log. An error that carries\n"
        "`retry_after_s` may be tried again then; the others need something to change first."
    )
    return _page("Errors, refusals and abstentions", intro, _all_words())


def _all_words() -> Iterator[str]:
    yield "## Error codes\n"
    for code, kind in errors.BY_CODE.items():
        parent = kind.__mro__[1].__name__
        again = "worth trying again" if issubclass(kind, errors.Unavailable) else "not by waiting"
        yield f"### {code}\n\n{reading.summary(kind)}\n"
        yield f"`{kind.__name__}`, a kind of `{parent}` · {again}\n"
    yield "## Refusals of a peer\n\nBefore a frame is read, by its certificate.\n"
    yield from _members(reasons.Reason)
    yield "## Refusals of a connection\n\nThe last frame before it is closed says one of these.\n"
    yield from _members(connection.Code)
    yield f"### {authorisation.NOT_AUTHORISED}\n\nA frame that this kind of peer may not send.\n"
    yield "## Abstentions\n\nWhy a decision is silent; the first that applies is given.\n"
    yield from _members(decision.Reason)
    yield "## Denials of the operator\n\nWhy a signing request gets no certificate.\n"
    yield from _members(denials.Reason)
    yield "## States of a pool of agents\n\nWhy an AgentPool is ready, or is not.\n"
    yield from _members(pools.Reason)


def _members(words: type[StrEnum]) -> Iterator[str]:
    told = reading.attributes(words)
    for member in words:
        plain = f"{str(member).replace('_', ' ').capitalize()}."
        yield f"### {member}\n\n{told.get(member.name) or plain}\n"


# --- metrics --------------------------------------------------------------------------------------


def metric_names() -> str:
    """Every metric."""
    intro = (
        "Served at `/metrics` of each process, with those of the process itself. No label ever\n"
        "holds a series, a value or a peer's id."
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


def _allowed(allowed: words.Words | words.FirstNames) -> str:
    if isinstance(allowed, words.FirstNames):
        return allowed.what
    return ", ".join(
        "the version" if allowed is words.VERSIONS else each for each in sorted(allowed)
    )


# --- frames ---------------------------------------------------------------------------------------


def frame_types() -> str:
    """Every frame with its fields and who may send it to whom."""
    intro = (
        f"Version {frames.VERSION}, ALPN `{frames.ALPN}`. On the wire a frame is a big-endian\n"
        "32-bit length and a msgpack map whose key `frame` names the type. Unknown fields are\n"
        "ignored; a frame that is not in the table of who may send what closes the connection."
    )
    return _page("Frames", intro, (_frame(kind) for kind in frames.FRAMES.values()))


def _frame(kind: type[frames.Frame]) -> str:
    role = "statement"
    if issubclass(kind, frames.Request):
        role = "request"
    elif issubclass(kind, frames.Answer):
        role = "answer"
    allowed = [f"{a} to {b}" for (a, b), may in authorisation.TABLE.items() if kind in may]
    who = "every peer, while a connection opens" if kind in authorisation.OPENING else ""
    lines = [
        f"## {kind.__name__}\n",
        f"{reading.one_line(kind.__doc__)}\n",
        f"{role} · {', '.join(allowed) or who or 'nobody yet'}\n",
        "| field | type | default | |",
        "|---|---|---|---|",
        *_fields(kind),
    ]
    return "\n".join(lines) + "\n"


def _fields(kind: type[msgspec.Struct]) -> Iterator[str]:
    told, hints = reading.attributes(kind), get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else f"`{_default(field)}`"
        hint = _hint(hints[field.name])
        yield f"| `{field.name}` | {hint} | {default} | {told.get(field.name, '')} |"


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
    """Every command with its options."""
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
    """The full names of all commands."""
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
    told = reading.one_line(getattr(parameter, "help", "")).replace("|", "\\|")
    return f"| {shown} | {default} | {told} |"


def _plain(value: Any) -> str:
    return str(value.value) if hasattr(value, "value") else str(value)
