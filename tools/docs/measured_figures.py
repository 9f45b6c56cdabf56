"""Write measured figures into README.md and docs/explanation.

    python -m tools.docs.measured_figures --fleet fleet.json --run report.json --judge judge.json \\
        --kernels docs/measured/kernels.json

Each file was written by a make target with ``ARGS="--json FILE"``: ``bench-fleet``, ``run``,
``judge`` or ``bench`` (kernels).  The figures of the fleet replace the text between the two marks
``<!-- figures: fleet -->`` and ``<!-- end -->``, and likewise for the other names.  Figures without
a file in the arguments stay as they are.  No figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
TARGETS = (
    TOP / "README.md",
    TOP / "docs/explanation/figures.md",
    TOP / "docs/explanation/kernels-benchmark.md",
)
Tables = Callable[[Mapping[str, Any]], str]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with a head and rows."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fleet(figures: Mapping[str, Any]) -> str:
    """Return the Markdown of the results of ``make bench-fleet``."""
    rows = [
        [row["what"], _number(row.get("p50")), _number(row.get("p99")), row["unit"],
         _number(row.get("ratio")), row["target"],
         "" if not row["target"] else "yes" if row["held"] else "**no**"]
        for row in figures["rows"]
    ]  # fmt: skip
    machine = figures["machine"]
    heading = (
        f"`make bench-fleet` on {machine['cpu']}, {machine['cores']} cores, {figures['date']}:"
    )
    result = f"{heading}\n\n{table(['', 'p50', 'p99', 'unit', '× QUIC', 'target', 'held'], rows)}"
    rounds = [
        f"{row['what']} {', '.join(map(_number, row['p99_of_rounds']))}"
        for row in figures["rows"]
        if row.get("p99_of_rounds")
    ]
    return f"{result}\n\nMedians of alternating rounds, whose p99 were: {'; '.join(rounds)}."


def run(report: Mapping[str, Any]) -> str:
    """Return the Markdown of the results of ``make run``, a row for each data set."""
    rows = []
    for part in report["parts"]:
        signals = sum(part["signals"].values())
        rows.append(
            [part["data"], f"{part['decisions']:,}", f"{signals:,}", share(part["precision"]),
             f"{part['precision_target']:.2f}", share(part["base_rate"]), share(part["coverage"]),
             _number(part["brier_skill"])]
        )  # fmt: skip
    head = ["data", "decisions", "signals", "precision", "target", "base rate", "coverage of 90 %",
            "Brier skill"]  # fmt: skip
    return f"`make run`, with 95 % intervals:\n\n{table(head, rows)}"


def share(result: Mapping[str, Any] | None) -> str:
    """Return a measured share and its interval as text, or "none" if nothing was measured."""
    if result is None:
        return "none"
    return f"{result['value']:.3f} ({result['low']:.3f} to {result['high']:.3f})"


def judge(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the Markdown of the results of ``make judge``, with a table for each data set."""
    heading = "`make judge`: decisions of the second half of each data set, with 95 % intervals."
    return "\n\n".join([heading, *(_judged(name, result) for name, result in figures.items())])


def _judged(name: str, result: Mapping[str, Any]) -> str:
    fixed = result["fixed_threshold"]
    part = "" if fixed["share"] is None else f", of which we give {fixed['share']:.0%}"
    lines = [
        f"**{name}**: {result['decisions']:,} decisions, {result['emitted']:,} signals;"
        " the best fixed"
        f" threshold in hindsight gives {fixed['emitted']:,}{part}. Precision"
        f" {share(result['precision'])} of {result['target']:g} wanted; coverage"
        f" {share(result['coverage'])} of {result['coverage_target']:g} wanted.",
        "",
        table(HEAD, [_ours(result), *map(_rival, result["rivals"])]),
    ]
    winners = [f"{rival['name']} ({', '.join(rival['wins'])}"
               f"{'; clearly' if rival['wins_clearly'] else ''})"
               for rival in result["rivals"] if rival["wins"]]  # fmt: skip
    return "\n".join([*lines, "", f"Ahead of us: {', '.join(winners) or 'none'}."])


HEAD = ("", "right, all decisions", "right, where we signal", "right, as many of its own choice",
        "Brier skill")  # fmt: skip


def _ours(result: Mapping[str, Any]) -> list[str]:
    precision = share(result["precision"])
    return [
        "midstreamer",
        share(result["hit"]),
        precision,
        precision,
        share(result["brier_skill"]),
    ]


def _rival(result: Mapping[str, Any]) -> list[str]:
    keys = ("hit", "hit_on_emitted", "precision_same_count", "brier_skill")
    return [result["name"], *(share(result[key]) for key in keys)]


def kernels(figures: Mapping[str, Any]) -> str:
    """Return the Markdown of the results of ``make bench``.

    It has a table of the required results (gates) and whether they are met, a table for each task,
    and a table of how the cost grows with the size of the history.
    """
    machine, packages = figures["machine"], figures["packages"]
    heading = (
        f"`make bench` on {machine['cpu']}, {machine['cores']} cores, {machine['instruction_set']},"
        f" {figures['date']}, {figures['seconds'] / 60:.0f} minutes; peers:"
        f" {', '.join(f'{name} {version}' for name, version in packages.items())}:"
    )
    tasks = dict.fromkeys(row["task"] for row in figures["rows"])
    parts = [_task(name, [row for row in figures["rows"] if row["task"] == name]) for name in tasks]
    return "\n\n".join([heading, _gates(figures["gates"]), *parts, _growth(figures["growth"])])


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    words = {True: "yes", False: "**no**", None: ""}
    rows = [
        [gate["title"], *(_amount(gate[key], gate["unit"]) for key in ("measured", "gate", "goal")),
         words[gate["held"]]]
        for gate in gates
    ]  # fmt: skip
    return table(["task", "measured", "gate", "goal", "held"], rows)


def _task(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    words = {True: "same", False: "**differs**", None: ""}
    lines = [
        [row["name"], "missing", "", row["missing"]]
        if row["median_s"] is None
        else [row["name"], _duration(row["median_s"]),
              f"{_duration(row['low_s'])} to {_duration(row['high_s'])}", words[row["agrees"]]]
        for row in rows
    ]  # fmt: skip
    return f"**{name}**\n\n{table(['', 'median', 'half of it between', 'answer'], lines)}"


def _growth(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [row["name"], _duration(row["median_s"]), _duration(row["answer"]["build_s"]),
         f"{row['answer']['bytes_per_point']:.1f}",
         _duration(row["answer"].get("append_s"))]
        for row in rows if row["median_s"] is not None
    ]  # fmt: skip
    head = ["", "search", "built in", "bytes a point", "one point appended"]
    return f"**growth**\n\n{table(head, lines)}"


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return {"x": f"{_number(value)}x", "%": f"{value:.0%}", "s": f"{value:.3g} s"}[unit]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    scale, unit = next(
        (each for each in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if seconds >= each[0]),
        (1e-9, "ns"),
    )
    return f"{seconds / scale:.3g} {unit}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def replaced(text: str, name: str, result: str) -> str:
    """Return ``text``, in which ``result`` replaces the content between the marks for ``name``."""
    pattern = re.compile(rf"(<!-- figures: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{result}{found[2]}", text)


def main() -> None:
    """Write the measured numbers from the given files between the marks in the pages."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.docs.measured_figures", description=__doc__
    )
    kinds: dict[str, Tables] = {
        "fleet": fleet, "run": run, "judge": judge, "kernels": kernels,
    }  # fmt: skip
    for name in kinds:
        parser.add_argument(f"--{name}", type=Path, help=f"JSON file with the results of {name}")
    given = vars(parser.parse_args())
    for name, write in kinds.items():
        if given[name] is None:
            continue
        result = write(json.loads(given[name].read_text(encoding="utf-8")))
        for path in TARGETS:
            path.write_text(replaced(path.read_text(encoding="utf-8"), name, result), "utf-8")


if __name__ == "__main__":
    main()
