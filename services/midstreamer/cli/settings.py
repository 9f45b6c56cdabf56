"""Settings on the command line: ``--config``, ``--set``, and the commands that show settings."""

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
from midstreamer.cli.run_settings import RunSettings
from midstreamer.client.config import ClientSettings
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain.errors import BadInput
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.runtime import config
from midstreamer.runtime.config import Settings
from midstreamer.sync.config import SyncSettings

S = TypeVar("S", bound=Settings)
_KEY = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_.-]{0,63}\s*")
"""Form of a key in ``--set``."""

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
"""For each section of the configuration, by name: the class of its settings. Settings that several
sections have, such as those of security, are nested in these classes."""


@dataclass
class Invocation:
    """The options that every command accepts, before or after the name of the command."""

    config_file: Path | None = None
    """The configuration file that ``--config`` names."""
    debug: bool = False
    """Whether ``--debug`` was given."""


def invocation(context: typer.Context) -> Invocation:
    """Return ``--config`` and ``--debug`` as given on this command line."""
    found = context.find_object(Invocation)
    return found if found is not None else Invocation()


def file_of(context: typer.Context) -> Path | None:
    """Return the configuration file: the given one, else the default file if it exists."""
    return invocation(context).config_file or config.default_config_file()


def of(context: typer.Context, kind: type[S], overrides: Mapping[str, Any] | None = None) -> S:
    """Return the settings of one section, from the configuration file, the environment and the
    command line."""
    return config.load(kind, config_file=file_of(context), overrides=overrides)


def assignments(sets: Iterable[str]) -> dict[str, str]:
    """Split each ``KEY=VALUE`` word, and return the values by key.  Raise BadInput for a word that
    does not have this form."""
    values = {}
    for word in sets:
        key, equals, value = word.partition("=")
        # The message must not repeat the word, because the word may be a part of a password. If a
        # user types a password with a space, and does not put the password in quotation marks, the
        # shell splits the password into several words.
        if not _KEY.fullmatch(key):
            raise BadInput(
                "--set takes KEY=VALUE, where KEY is a setting of the section, such as `listen`"
            )
        if not equals:
            raise BadInput(f"--set {word!r} is not KEY=VALUE: the equals sign is missing")
        values[key.strip()] = value
    return values


def show(several: Sequence[Settings]) -> None:
    """Print each setting with its value and its origin."""
    from rich.table import Table

    from midstreamer.console.terminal import console_here

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for each in several:
        for row in config.show(each):
            table.add_row(row.key, row.value, row.origin)
    console_here().print(table)


commands = typer.Typer(no_args_is_help=True, help="Show the settings, and their schema.")


@commands.command("show")
def show_command(
    context: typer.Context,
    section: str = typer.Argument("", help="Section to show. Default: all sections."),
) -> None:
    """Show every setting with its value and its origin.

    Example: midstreamer --config config.toml config show agent
    """
    show([of(context, kind) for kind in _chosen(section)])


@commands.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the configuration file."""
    properties = {name: kind.model_json_schema() for name, kind in SECTIONS.items()}
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    sys.stdout.write(json.dumps(schema, indent=2) + "\n")


def _chosen(section: str) -> list[type[Settings]]:
    """Return the settings class of the named section; for "", the classes of all sections."""
    if not section:
        return list(SECTIONS.values())
    if section not in SECTIONS:
        raise BadInput(f"section {section!r} is unknown: use one of {', '.join(SECTIONS)}")
    return [SECTIONS[section]]
