"""Standard output as a console, used by every command for its tables and lines."""

from __future__ import annotations

from rich.console import Console

PLAIN_COLUMNS = 160
"""Width of a table when standard output is not a terminal."""


def console_here() -> Console:
    """Return standard output as a console.

    For a terminal, the console is as wide as the terminal. A pipe or a file has no width. For these
    the console has `PLAIN_COLUMNS` columns, because rich's default of 80 columns would fold every
    table.
    """
    terminal = Console().is_terminal
    # Without markup, because text such as [agent] must be printed as it is.
    return Console(width=None if terminal else PLAIN_COLUMNS, markup=False, highlight=False)
