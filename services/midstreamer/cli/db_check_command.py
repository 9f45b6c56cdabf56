"""``midstreamer db check``: run the audit, show its progress, and print its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from midstreamer.console.progress import TableProgress
from midstreamer.domain.errors import StoreError
from midstreamer.store import audit
from midstreamer.store.audit import Progress, Report
from midstreamer.store.decision_audit import Rules
from midstreamer.store.postgres import PostgresStore
from midstreamer.store.row_checks import Finding

SHOWN_MAX = 100
"""Maximum findings that are printed."""


def rules() -> Rules:
    """Return the functions of reasoning and kernels with which the audit recomputes decisions."""
    from midstreamer import reasoning
    from midstreamer.market import match_distances

    return Rules(
        reasoning.initial,
        reasoning.learn,
        reasoning.encode,
        reasoning.decode,
        reasoning.decide,
        reasoning.judge,
        reasoning.LIBRARY,
        match_distances.between,
    )


async def checked(store: PostgresStore, since: int) -> Report:
    """Audit an open store and return the report; the progress goes to standard error."""
    with TableProgress(Console(stderr=True)) as progress:

        def show(state: Progress) -> None:
            progress.show(state.table, state.done, state.whole)

        async with store.auditing() as reader:
            return await audit.Audit(reader, rules(), since=since, progress=show).run()


def told(report: Report, console: Console, json_report: Path | None) -> None:
    """Print the findings of an audit; raise StoreError when there is a finding."""
    if json_report is not None:
        json_report.write_text(json.dumps(_plain(report), indent=2) + "\n", encoding="utf-8")
    for finding in report.kept[:SHOWN_MAX]:
        console.print(str(finding), soft_wrap=True, markup=False, highlight=False)
    if report.total > SHOWN_MAX:
        console.print(f"and {report.total - SHOWN_MAX:,} more")
    counts = ", ".join(f"{count:,} {table}" for table, count in sorted(report.checked.items()))
    console.print(f"recomputed and compared: {counts}", soft_wrap=True)
    if report.foreign:
        console.print(
            f"{report.foreign:,} decisions were made by another version of the reasoning: only"
            " their columns, ids, windows and matches were compared",
            soft_wrap=True,
        )
    if report.unlearned:
        console.print(
            f"{report.unlearned:,} verdicts could not be learned; sync logged each of them as"
            " verdict.unlearned, and the learning states do not include them",
            soft_wrap=True,
        )
    if report.total:
        raise StoreError(
            f"{report.total:,} stored values differ from the recomputed ones: keep a dump of the"
            " database and report them"
        )
    console.print("no stored value differs from its recomputed value")


def _plain(report: Report) -> dict[str, Any]:
    """Return the report as values that JSON can hold."""
    kept = [
        finding._asdict() if isinstance(finding, Finding) else {"promise": finding}
        for finding in report.kept
    ]
    return {
        "checked": dict(report.checked),
        "another_library": report.foreign,
        "unlearned": report.unlearned,
        "contradictions": report.total,
        "first": kept,
    }
