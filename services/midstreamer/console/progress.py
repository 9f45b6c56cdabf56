"""Progress of a long check of database tables.  A terminal shows a progress bar for each table; any
other output gets a line of text every few seconds.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

LINES_EVERY_S = 5.0
"""Seconds between two lines when the output is not a terminal."""


class TableProgress:
    """Shows how many rows of each table are checked.

    Use it as a context manager; its progress bars disappear when the context ends.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._told_s = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, table: str, done: int, total: int) -> None:
        """Show that ``done`` of the ``total`` rows of a table are checked."""
        if self._console.is_terminal:
            if table not in self._tasks:
                self._tasks[table] = self._bars.add_task(table)
            self._bars.update(self._tasks[table], completed=done, total=total)
        elif time.monotonic() >= self._told_s + LINES_EVERY_S:
            self._told_s = time.monotonic()
            self._console.print(f"{table}: {done:,} of {total:,}")
