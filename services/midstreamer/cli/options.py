"""The options of the whole command, `--config` and `--debug`: before the verb, after it, or both.

`midstreamer --config FILE sync` and `midstreamer sync --config FILE` mean the same.  Of two
`--config` the later one counts, as with any option that is given twice.
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

PANEL = "Of every command"
Config = typer.Option(
    None,
    help="TOML file of settings. Default: $MIDSTREAMER_CONFIG, else ./config.toml if there.",
    rich_help_panel=PANEL,
)
Debug = typer.Option(
    False, "--debug", help="Show the traceback of an error.", rich_help_panel=PANEL
)


def check_no_secret(words: Sequence[str]) -> None:
    """Refuse arguments with a password: every user of the machine can read them."""
    for number, word in enumerate(words, start=1):
        if logs.scrub(word) != word:
            raise ConfigError(f"argument {number} {FLAG_IS_PUBLIC % 'MIDSTREAMER_SYNC__DSN'}")


def note(context: typer.Context, config: Path | None, debug: bool) -> None:
    """Remember what was given; an option that is left out changes nothing."""
    found = invocation(context)
    found.config_file = config or found.config_file
    found.debug = debug or found.debug


def of_group(context: typer.Context, config: Path | None = Config, debug: bool = Debug) -> None:
    """Take the options between a group and its verb: `midstreamer db --config FILE status`."""
    note(context, config, debug)


def taking(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb, with the options of the whole command among its own."""
    own = inspect.signature(verb).parameters
    shared = inspect.signature(of_group).parameters

    @functools.wraps(verb)
    def with_options(
        *, context: typer.Context, config: Path | None, debug: bool, **given: Any
    ) -> None:
        note(context, config, debug)
        verb(**({"context": context} if "context" in own else {}), **given)

    ordered = [*own.values(), *(each for name, each in shared.items() if name not in own)]
    as_keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in ordered]
    with_options.__signature__ = inspect.Signature(as_keywords)  # type: ignore[attr-defined]
    with_options.__annotations__ = get_type_hints(of_group) | get_type_hints(verb)
    return with_options
