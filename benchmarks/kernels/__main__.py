"""Compare the kernels with other packages: ``make bench ARGS="--json FILE --chart FILE"``.

The other packages need an older numba than the product.  A run therefore has a process for each
Python environment and one for node.  All read the same files and are pinned to the same processor.
Within a task the calls alternate, round after round; in a round each call is repeated for a
fraction of a second.  Medians are compared.  `--only NAME` runs only the tasks whose names begin
with NAME.  With `--quick` each task has only two rounds.  The tasks that measure how time and
memory grow with the amount of data then use less data.  That is enough to see that everything runs.

A gate is a value that the kernels must reach, such as a ratio to another package.  One gate decides
the exit status: the speed of WebAssembly as a ratio to the speed of JavaScript.  The status is 1 if
this gate was missed, or if its task ran without a result.  It is 130 after Ctrl-C.  Whether other
gates were reached is only printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.kernels import chart, first_use, growth, report, rival_packages
from benchmarks.kernels.children import TOP, Children, commands
from benchmarks.kernels.data import Files
from benchmarks.kernels.gates import stopped, verdicts
from benchmarks.kernels.measure import Row, Spent, measured
from benchmarks.kernels.tasks import TASKS, Task

PEERS = TOP / ".venv-peers"
WIDTH = 110
"""Width of tables if the output is no terminal."""
START_S, PREPARE_S = 30.0, 2.0
"""Estimated durations in seconds, for the progress bar.

``START_S``: all measurements of `first_use` together.  ``PREPARE_S``: the preparation of one call.
"""


@dataclass(frozen=True)
class Step:
    """A part of the run, with an estimate of its duration in seconds."""

    name: str
    task: Task | None
    seconds: float


def steps(only: str | None, *, quick: bool) -> list[Step]:
    """Return the parts of the run in order; ``only`` selects those whose names start with it."""
    tasks = [*TASKS, *growth.tasks(quick=quick)]
    every = [Step(task.name, task, _guess(task, quick=quick)) for task in tasks]
    every.append(Step(first_use.TASK, None, START_S))
    return [step for step in every if only is None or step.name.startswith(only)]


def _guess(task: Task, *, quick: bool) -> float:
    rounds = 2 if quick else task.rounds
    return len(task.entries) * (PREPARE_S + rounds * task.budget_s)


class Bench:
    """One run of the benchmark: its processes, its data files and its results."""

    def __init__(self, children: Children, files: Files, *, quick: bool) -> None:
        self.children, self.files, self.quick = children, files, quick
        self.rows: list[Row] = []
        self.growth: list[Row] = []

    def step(self, step: Step, spent: Spent) -> list[Row]:
        """Run a part, keep its rows and return them."""
        if step.task is None:
            made = first_use.measured(quick=self.quick, spent=spent)
        else:
            for name in step.task.needs:
                self.files.write(name)
            made = measured(step.task, self.children, quick=self.quick, spent=spent)
        kept = self.growth if step.name.startswith("growth") else self.rows
        kept += made
        return made


@contextmanager
def progress(todo: list[Step]) -> Iterator[Progress]:
    """Show a progress bar with the remaining time, if stderr is a terminal."""
    left = TimeRemainingColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("remaining"), left)
    told = Console(stderr=True)
    with Progress(*columns, console=told, disable=not told.is_terminal, transient=True) as bar:
        bar.add_task("", total=sum(step.seconds for step in todo))
        yield bar


def run(bench: Bench, todo: list[Step], screen: Console) -> None:
    """Run all parts, and print the table of each as soon as it is done."""
    done = 0.0
    with progress(todo) as bar:
        shown = bar.task_ids[0]
        for step in todo:
            bar.update(shown, description=step.name)

            def spent(share: float, before: float = done, step: Step = step) -> None:
                bar.update(shown, completed=before + share * step.seconds)

            made = bench.step(step, spent)
            done += step.seconds
            table = report.growth_table if step.name.startswith("growth") else report.rows_table
            title = step.task.title if step.task else "first use"
            screen.print(table(title, made))
            for row in made:
                if row.missing:
                    screen.print(f"{row.name}: {row.missing}", style="dim")


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    names = [step.name for step in steps(None, quick=False)]
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    parser.add_argument(
        "--chart", type=Path, metavar="FILE", help="draw the results into this SVG file"
    )
    parser.add_argument(
        "--only", metavar="NAME", help=f"run only tasks whose names begin with NAME: {names}"
    )
    parser.add_argument("--quick", action="store_true", help="rough results in a minute")
    given = parser.parse_args()
    if not steps(given.only, quick=given.quick):
        parser.error(f"--only {given.only}: give the beginning of one of {', '.join(names)}")
    return given


def javascript() -> tuple[Path, Path]:
    """Return the path of node and the folder of its packages.

    If the packages cannot be fetched, print the reason.  The run then continues without results
    for these packages.
    """
    node = rival_packages.node(PEERS)
    try:
        return node, rival_packages.fetched(node)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"the packages for node could not be fetched: {error}\n")
        return node, rival_packages.FOLDER


def main() -> int:
    """Measure, print and write the results; return the exit status."""
    given, begin = arguments(), time.perf_counter()
    screen = Console(width=None if sys.stdout.isatty() else WIDTH)
    node, archives = javascript()
    machine = report.machine()
    screen.print(f"{machine['cpu']}, {machine['cores']} cores, {machine['instruction_set']}")
    with tempfile.TemporaryDirectory(prefix="midstreamer-bench-") as folder:
        data = Path(folder)
        with Children(commands(data, PEERS, node, archives)) as children:
            bench = Bench(children, Files(data), quick=given.quick)
            run(bench, steps(given.only, quick=given.quick), screen)
    made = report.Report(
        machine, report.packages(PEERS, node), bench.rows, bench.growth,
        verdicts(bench.rows, machine["instruction_set"]), time.perf_counter() - begin, given.quick,
    )  # fmt: skip
    if made.gates:
        screen.print(report.gates_table(made.gates, machine["instruction_set"]))
    if given.json:
        given.json.write_text(made.json(), encoding="utf-8")
    if given.chart:
        told = f"{machine['cpu']}, {machine['instruction_set']}"
        given.chart.write_text(chart.drawn(TASKS, bench.rows, told), encoding="utf-8")
    if stopped(made.gates):
        screen.print("[red]NO-GO: WebAssembly did not reach its gate against textbook JavaScript")
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
