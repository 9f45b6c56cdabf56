"""Put measured figures into README.md and docs/explanation/figures.md: ``python -m docs.figures``.

    python -m docs.figures --fleet fleet.json --run report.json --judge judge.json

Each file is what the command of that name wrote with ``--json``.  Text between two marks
``<!-- figures: fleet -->`` and ``<!-- end -->`` is replaced; what was not measured this time is
left as it is.  Nobody types a figure.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent
TARGETS = (TOP / "README.md", TOP / "docs/explanation/figures.md")
Tables = Callable[[Mapping[str, Any]], str]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fleet(figures: Mapping[str, Any]) -> str:
    """What `make bench-fleet` measured."""
    rows = [
        [row["what"], _number(row.get("p50")), _number(row.get("p99")), row["unit"], row["target"],
         "yes" if row["held"] else "**no**"]
        for row in figures["rows"]
    ]  # fmt: skip
    machine = figures["machine"]
    told = f"`make bench-fleet` on {machine['cpu']}, {machine['cores']} cores, {figures['date']}:"
    return f"{told}\n\n{table(['', 'p50', 'p99', 'unit', 'target', 'held'], rows)}"


def run(report: Mapping[str, Any]) -> str:
    """What `make run` came to, part by part."""
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


def share(made: Mapping[str, Any] | None) -> str:
    """A share with its interval."""
    if made is None:
        return "none"
    return f"{made['value']:.3f} ({made['low']:.3f} to {made['high']:.3f})"


def judge(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """What `make judge` came to, each data set beside its rivals."""
    told = "`make judge`: decisions of the second half of each data set, with 95 % intervals."
    return "\n\n".join([told, *(_judged(name, made) for name, made in figures.items())])


def _judged(name: str, made: Mapping[str, Any]) -> str:
    fixed = made["fixed_threshold"]
    part = "" if fixed["share"] is None else f", of which we give {fixed['share']:.0%}"
    lines = [
        f"**{name}**: {made['decisions']:,} decisions, {made['emitted']:,} signals; the best fixed"
        f" threshold in hindsight gives {fixed['emitted']:,}{part}. Precision"
        f" {share(made['precision'])} of {made['target']:g} wanted; coverage"
        f" {share(made['coverage'])} of {made['coverage_target']:g} wanted.",
        "",
        table(HEAD, [_ours(made), *map(_rival, made["rivals"])]),
    ]
    winners = [f"{rival['name']} ({', '.join(rival['wins'])}"
               f"{'; clearly' if rival['wins_clearly'] else ''})"
               for rival in made["rivals"] if rival["wins"]]  # fmt: skip
    return "\n".join([*lines, "", f"Ahead of us: {', '.join(winners) or 'none'}."])


HEAD = ("", "right, all decisions", "right, where we signal", "right, as many of its own choice",
        "Brier skill")  # fmt: skip


def _ours(made: Mapping[str, Any]) -> list[str]:
    precision = share(made["precision"])
    return ["midstreamer", share(made["hit"]), precision, precision, share(made["brier_skill"])]


def _rival(made: Mapping[str, Any]) -> list[str]:
    keys = ("hit", "hit_on_emitted", "precision_same_count", "brier_skill")
    return [made["name"], *(share(made[key]) for key in keys)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def replaced(text: str, name: str, made: str) -> str:
    """The text with what stands between the marks of ``name`` replaced."""
    pattern = re.compile(rf"(<!-- figures: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{made}{found[2]}", text)


def main() -> None:
    """Replace what was measured, in each file that has a mark for it."""
    parser = argparse.ArgumentParser(prog="python -m docs.figures", description=__doc__)
    kinds: dict[str, Tables] = {"fleet": fleet, "run": run, "judge": judge}
    for name in kinds:
        parser.add_argument(f"--{name}", type=Path, help=f"JSON that {name} wrote")
    given = vars(parser.parse_args())
    for name, write in kinds.items():
        if given[name] is None:
            continue
        made = write(json.loads(given[name].read_text(encoding="utf-8")))
        for path in TARGETS:
            path.write_text(replaced(path.read_text(encoding="utf-8"), name, made), "utf-8")


if __name__ == "__main__":
    main()
