"""Standard output as a console: what every verb prints its tables and lines on."""

from __future__ import annotations

from rich.console import Console

PLAIN_COLUMNS = 160


def console_here() -> Console:
    """Standard output; a pipe has no width, and the usual 80 columns would fold every table."""
    terminal = Console().is_terminal
    # No markup: a key like [agent] in what is shown is meant as it stands.
    return Console(width=None if terminal else PLAIN_COLUMNS, markup=False, highlight=False)
