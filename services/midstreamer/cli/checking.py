"""``midstreamer db check``: what it shows while it works, and what it says at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from midstreamer.console.progress import TableProgress
from midstreamer.domain.errors import StoreError
from midstreamer.store import audit
from midstreamer.store.audit import Progress, Report
from midstreamer.store.findings import Finding
from midstreamer.store.postgres import PostgresStore
from midstreamer.store.proofs import Rules

SHOWN_MAX = 100


def rules() -> Rules:
    """The reasoning and the kernels of this installation."""
    from midstreamer import reasoning
    from midstreamer.market import distances

    return Rules(
        reasoning.initial,
        reasoning.learn,
        reasoning.encode,
        reasoning.decode,
        reasoning.decide,
        reasoning.judge,
        reasoning.LIBRARY,
        distances.between,
    )


async def checked(store: PostgresStore, since: int) -> Report:
    """Check an open store, showing on standard error how far it has come."""
    with TableProgress(Console(stderr=True)) as progress:

        def show(made: Progress) -> None:
            progress.show(made.table, made.done, made.whole)

        async with store.auditing() as reader:
            return await audit.Audit(reader, rules(), since=since, progress=show).run()


def told(report: Report, console: Console, json_report: Path | None) -> None:
    """Print what was found; StoreError when anything was."""
    if json_report is not None:
        json_report.write_text(json.dumps(_plain(report), indent=2) + "\n", encoding="utf-8")
    for one in report.kept[:SHOWN_MAX]:
        console.print(str(one), soft_wrap=True, markup=False, highlight=False)
    if report.total > SHOWN_MAX:
        console.print(f"and {report.total - SHOWN_MAX:,} more")
    counts = ", ".join(f"{count:,} {table}" for table, count in sorted(report.checked.items()))
    console.print(f"derived again: {counts}", soft_wrap=True)
    if report.foreign:
        console.print(
            f"{report.foreign:,} decisions are of another version of the reasoning: only their"
            " columns, ids, windows and matches were compared",
            soft_wrap=True,
        )
    if report.unlearned:
        console.print(
            f"{report.unlearned:,} verdicts cannot be learned from; sync logged each as"
            " verdict.unlearned, and their streams went on without them",
            soft_wrap=True,
        )
    if report.total:
        raise StoreError(f"{report.total:,} contradictions found: keep a dump and report them")
    console.print("nothing contradicts a promise")


def _plain(report: Report) -> dict[str, Any]:
    kept = [one._asdict() if isinstance(one, Finding) else {"promise": one} for one in report.kept]
    return {
        "checked": dict(report.checked),
        "another_library": report.foreign,
        "unlearned": report.unlearned,
        "contradictions": report.total,
        "first": kept,
    }
