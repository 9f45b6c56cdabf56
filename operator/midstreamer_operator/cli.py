"""The command ``midstreamer-operator``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

import midstreamer_operator
from midstreamer.cli import errors
from midstreamer.domain.errors import BadInput
from midstreamer.runtime import config
from midstreamer.telemetry import logs
from midstreamer_operator import process
from midstreamer_operator.settings import OperatorSettings

app = typer.Typer(
    name="midstreamer-operator",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def operate(
    config_file: Path | None = typer.Option(  # noqa: B008 - typer reads its options so
        None, "--config", help="TOML file of settings. Default: $MIDSTREAMER_CONFIG."
    ),
    sets: list[str] = typer.Option(  # noqa: B008 - typer reads its options so
        [], "--set", metavar="KEY=VALUE", help="One setting, as in its section; may be repeated."
    ),
    print_config: bool = typer.Option(
        False, "--print-config", help="Show each setting and its origin, end."
    ),
    version: bool = typer.Option(False, "--version", help="Show the version and end."),
) -> None:
    """Look after one installation of Midstreamer, from a pod of its namespace.

    Two replicas are ready at once; the one that holds the lease works.
    """
    if version:
        typer.echo(f"midstreamer-operator {midstreamer_operator.__version__}")
        return
    file = config_file or config.default_config_file()
    made = config.load(OperatorSettings, config_file=file, overrides=_assigned(sets))
    if print_config:
        for row in config.show(made):
            typer.echo(f"{row.key} = {row.value}  ({row.origin})")
        return
    logs.configure(made.telemetry.json_logs, made.telemetry.level)
    asyncio.run(process.run(made))


def _assigned(sets: Sequence[str]) -> dict[str, str]:
    made = {}
    for word in sets:
        key, equals, value = word.partition("=")
        if not equals:
            raise BadInput("--set takes KEY=VALUE, KEY a setting of [operator] such as `release`")
        made[key.strip()] = value
    return made


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return errors.outcome(
        lambda: app(args=words, prog_name="midstreamer-operator"), debug=lambda: False
    )


def main() -> None:
    """The entry point of the command."""
    sys.exit(execute())
