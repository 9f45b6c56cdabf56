"""Settings on the command line: ``--config``, ``--set``, and the verbs that show them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from midstreamer.agent.config import AgentSettings
from midstreamer.cli.config import RunSettings
from midstreamer.client.config import ClientSettings
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain.errors import BadInput
from midstreamer.postgres.config import PostgresSettings
from midstreamer.runtime import config
from midstreamer.runtime.config import Settings
from midstreamer.sync.config import SyncSettings

S = TypeVar("S", bound=Settings)
_KEY = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_.-]{0,63}\s*")

SECTIONS: Mapping[str, type[Settings]] = {
    each.section: each
    for each in (
        SyncSettings,
        CoordinatorSettings,
        AgentSettings,
        PostgresSettings,
        ClientSettings,
        RunSettings,
    )
}
"""Every section that belongs to a command; the shared ones are shown inside each."""


@dataclass
class Invocation:
    """What the options before the verb said."""

    config_file: Path | None = None
    debug: bool = False


def invocation(context: typer.Context) -> Invocation:
    """The options before the verb."""
    found = context.find_object(Invocation)
    return found if found is not None else Invocation()


def file_of(context: typer.Context) -> Path | None:
    """The configuration file in use: named, else the usual one when it is there."""
    return invocation(context).config_file or config.default_config_file()


def of(context: typer.Context, kind: type[S], overrides: Mapping[str, Any] | None = None) -> S:
    """The settings of one section, all layers together."""
    return config.load(kind, config_file=file_of(context), overrides=overrides)


def assignments(sets: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping."""
    made = {}
    for word in sets:
        key, equals, value = word.partition("=")
        if not _KEY.fullmatch(key):  # which may be half a password: it is not repeated
            raise BadInput("--set takes KEY=VALUE, KEY a setting of its section such as `listen`")
        if not equals:
            raise BadInput(f"--set {word!r} is not KEY=VALUE")
        made[key.strip()] = value
    return made


def show(several: Sequence[Settings]) -> None:
    """Print each setting, its value and its origin."""
    from rich.table import Table

    from midstreamer.console.terminal import console_here

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for each in several:
        for row in config.show(each):
            table.add_row(row.key, row.value, row.origin)
    console_here().print(table)


commands = typer.Typer(no_args_is_help=True, help="Show what is configured, and what can be.")


@commands.command("show")
def show_command(
    context: typer.Context,
    section: str = typer.Argument("", help="One section; all when left out."),
) -> None:
    """Show every setting with its value and where it came from.

    Example: midstreamer --config config.toml config show agent
    """
    show([of(context, kind) for kind in _chosen(section)])


@commands.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the configuration file, all sections."""
    properties = {name: kind.model_json_schema() for name, kind in SECTIONS.items()}
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    sys.stdout.write(json.dumps(made, indent=2) + "\n")


def _chosen(section: str) -> list[type[Settings]]:
    if not section:
        return list(SECTIONS.values())
    if section not in SECTIONS:
        raise BadInput(f"section {section!r}; known: {', '.join(SECTIONS)}")
    return [SECTIONS[section]]
