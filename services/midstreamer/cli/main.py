"""The ``midstreamer`` command: one subcommand for each process and task."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

import midstreamer
from midstreamer.cli import (
    certs,
    database,
    error_lines,
    judge_command,
    options,
    query_flags,
    run_flags,
    service_commands,
    settings,
)
from midstreamer.cli.settings import Invocation

app = typer.Typer(
    name="midstreamer",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Find past windows similar to the present one, forecast from them, and learn.

    To begin: `midstreamer run` starts everything on this machine. See `midstreamer run --help`.
    """,
)

_given = Invocation()
"""The options that were given before the subcommand of this command line, such as ``--config``."""


def _version(wanted: bool) -> None:
    """Print the version and exit, when ``--version`` is given."""
    if wanted:
        typer.echo(f"midstreamer {midstreamer.__version__}")
        raise typer.Exit


@app.callback()
def before_the_verb(
    context: typer.Context,
    config: Path | None = options.Config,
    debug: bool = options.Debug,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Record the options that stand before the subcommand."""
    _given.config_file, _given.debug = None, False
    context.obj = _given
    options.note(context, config, debug)


HERE, FLEET, UPKEEP = "On this machine", "A fleet's processes", "Upkeep"
"""Headings of the groups of commands in the help text."""
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    HERE: (
        run_flags.run,
        query_flags.replay,
        query_flags.match,
        query_flags.status,
        judge_command.judge,
    ),
    FLEET: (
        service_commands.sync,
        service_commands.coordinator,
        service_commands.agent,
        service_commands.postgres,
        query_flags.drain,
    ),
}
"""Commands by heading."""
for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(options.taking(verb))
for name, group in {
    "certs": certs.commands,
    "db": database.commands,
    "config": settings.commands,
}.items():
    group.callback()(options.of_group)
    for command in group.registered_commands:
        if command.callback is not None:
            command.callback = options.taking(command.callback)
    app.add_typer(group, name=name, rich_help_panel=UPKEEP)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    _given.debug = False
    return error_lines.outcome(
        lambda: _run(words),
        debug=lambda: _given.debug,
    )


def _run(words: Sequence[str]) -> None:
    """Check the command line for secrets, then run it."""
    # Check for secrets first, because the message of a later error may quote an argument.
    options.check_no_secret(words)
    app(args=list(words), prog_name="midstreamer")


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(execute())
