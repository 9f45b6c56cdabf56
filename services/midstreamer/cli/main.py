"""The command: one verb per process and task, the same errors and the same help everywhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

import midstreamer
from midstreamer.cli import asking, certs, database, errors, judging, launch, services, settings
from midstreamer.cli.settings import Invocation

app = typer.Typer(
    name="midstreamer",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Find what in history looks like now, on a fleet, and learn from each outcome.

    Try: `midstreamer run` does everything on this machine; `midstreamer run --help` tells how.
    """,
)

_given = Invocation()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"midstreamer {midstreamer.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Path | None = typer.Option(
        None,
        help="TOML file of settings. Default: $MIDSTREAMER_CONFIG, else ./config.toml if there.",
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and end."
    ),
) -> None:
    """Take the options that stand before the verb."""
    _given.config_file, _given.debug = config, debug
    context.obj = _given


HERE, FLEET, UPKEEP = "On this machine", "A fleet's processes", "Upkeep"
app.command(rich_help_panel=HERE)(launch.run)
app.command(rich_help_panel=HERE)(asking.replay)
app.command(rich_help_panel=HERE)(asking.match)
app.command(rich_help_panel=HERE)(asking.status)
app.command("judge", rich_help_panel=HERE)(judging.judge_command)
app.command(rich_help_panel=FLEET)(services.sync)
app.command(rich_help_panel=FLEET)(services.coordinator)
app.command(rich_help_panel=FLEET)(services.agent)
app.add_typer(certs.commands, name="certs", rich_help_panel=UPKEEP)
app.add_typer(database.commands, name="db", rich_help_panel=UPKEEP)
app.add_typer(settings.commands, name="config", rich_help_panel=UPKEEP)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    return errors.outcome(
        lambda: app(args=None if arguments is None else list(arguments), prog_name="midstreamer"),
        debug=lambda: _given.debug,
    )


def main() -> None:
    """The entry point of the ``midstreamer`` command."""
    sys.exit(execute())
