"""The command line of ``midstreamer-operator``: run one replica of the operator in a pod."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

import midstreamer_operator
from midstreamer.cli import error_lines
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
        [],
        "--set",
        metavar="KEY=VALUE",
        help="Set one setting of the section [operator], such as release=mid. Repeatable.",
    ),
    print_config: bool = typer.Option(
        False, "--print-config", help="Print each setting with its value and origin, then exit."
    ),
    version: bool = typer.Option(False, "--version", help="Print the version, then exit."),
) -> None:
    """Run one replica of the operator of a Midstreamer installation, in a pod of its namespace.

    An installation should have two replicas. Both stay ready, and only the replica that holds the
    lease acts.
    """
    if version:
        typer.echo(f"midstreamer-operator {midstreamer_operator.__version__}")
        return
    file = config_file or config.default_config_file()
    settings = config.load(OperatorSettings, config_file=file, overrides=_assigned(sets))
    if print_config:
        for row in config.show(settings):
            typer.echo(f"{row.key} = {row.value}  ({row.origin})")
        return
    logs.configure(settings.telemetry.json_logs, settings.telemetry.level)
    asyncio.run(process.run(settings))


def _assigned(sets: Sequence[str]) -> dict[str, str]:
    """Return the settings given as `--set KEY=VALUE`; raise BadInput for a word without `=`."""
    overrides = {}
    for word in sets:
        key, equals, value = word.partition("=")
        if not equals:
            raise BadInput(
                "--set takes KEY=VALUE, where KEY is a setting of [operator], such as `release`"
            )
        overrides[key.strip()] = value
    return overrides


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`, by default that of the process; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return error_lines.outcome(
        lambda: app(args=words, prog_name="midstreamer-operator"), debug=lambda: False
    )


def main() -> None:
    """Run the command and exit with its code. This is the entry point of the console script."""
    sys.exit(execute())
