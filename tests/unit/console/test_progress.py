"""The progress of a long check is shown as bars on a terminal, and as a few lines otherwise."""

from __future__ import annotations

import io

from rich.console import Console

from midstreamer.console.progress import TableProgress


def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    with TableProgress(Console(file=out, force_terminal=terminal, width=80)) as progress:
        for done in range(1000):
            progress.show("decisions", done, 1000)
    return out.getvalue()


def test_a_terminal_shows_each_table_and_how_much_of_it_is_done() -> None:
    text = shown(terminal=True)
    assert "decisions" in text
    assert "/1000" in text


def test_without_a_terminal_a_short_check_prints_nothing() -> None:
    assert shown(terminal=False) == ""
