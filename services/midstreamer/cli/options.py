"""The options `--config` and `--debug`. Every command accepts them before its name and after it.

`midstreamer --config FILE sync` and `midstreamer sync --config FILE` do the same. If `--config` is
given twice, the later one counts, as for any option.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import typer

from midstreamer.cli.settings import invocation
from midstreamer.domain.errors import ConfigError
from midstreamer.runtime.config import FLAG_IS_PUBLIC
from midstreamer.telemetry import logs

PANEL = "Options of every command"
"""Heading of the options ``--config`` and ``--debug`` in the help text."""
Config = typer.Option(
    None,
    help="TOML file of settings. Default: $MIDSTREAMER_CONFIG, else ./config.toml if it exists.",
    rich_help_panel=PANEL,
)
Debug = typer.Option(
    False, "--debug", help="Show the traceback of an error.", rich_help_panel=PANEL
)


def check_no_secret(words: Sequence[str]) -> None:
    """Refuse arguments with a password: every user of the machine can read the arguments."""
    for number, word in enumerate(words, start=1):
        if logs.scrub(word) != word:
            raise ConfigError(f"argument {number} {FLAG_IS_PUBLIC % 'MIDSTREAMER_SYNC__DSN'}")


def note(context: typer.Context, config: Path | None, debug: bool) -> None:
    """Record the given options; an omitted option changes nothing."""
    known = invocation(context)
    known.config_file = config or known.config_file
    known.debug = debug or known.debug


def of_group(context: typer.Context, config: Path | None = Config, debug: bool = Debug) -> None:
    """Record options between a group and its command: `midstreamer db --config FILE status`."""
    note(context, config, debug)


def taking(verb: Callable[..., None]) -> Callable[..., None]:
    """Return the function of a command with the options `--config` and `--debug` added."""
    own_parameters = inspect.signature(verb).parameters
    shared = inspect.signature(of_group).parameters

    @functools.wraps(verb)
    def with_options(
        *, context: typer.Context, config: Path | None, debug: bool, **given: Any
    ) -> None:
        note(context, config, debug)
        verb(**({"context": context} if "context" in own_parameters else {}), **given)

    ordered = [
        *own_parameters.values(),
        *(each for name, each in shared.items() if name not in own_parameters),
    ]
    as_keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in ordered]
    with_options.__signature__ = inspect.Signature(as_keywords)  # type: ignore[attr-defined]
    with_options.__annotations__ = get_type_hints(of_group) | get_type_hints(verb)
    return with_options
