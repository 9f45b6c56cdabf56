"""Gates: values that the kernels must reach, measured in one run on one machine.

Most gates are ratios to the speed of another package; some are shares of the processor's limit.
These gates are defined for processors with AVX-512.  On a processor that has AVX2 but not AVX-512,
half of the gate's value is enough.  On other processors the measured values are shown without a
gate.  Two gates are times in seconds, the same on every processor: for the cold start and for the
warm start (see `first_use`).

One ratio is an exception: it has a gate on every processor, and only this gate can make the run
fail.  WebAssembly must be at least 55 times as fast as textbook JavaScript if the processor has
AVX-512, and at least 50 times as fast on all other processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.kernels import first_use
from benchmarks.kernels.data import LENGTH, NARROW, PAIR, ROWS
from benchmarks.kernels.measure import Row

STOP_BELOW = 50.0
"""The run fails if WebAssembly is less than this many times as fast as textbook JavaScript."""
SHARES = {"avx512": 1.0, "avx2": 0.5}
"""By instruction set, the factor by which each gate is multiplied: with AVX2 half is enough."""

ONE_PAIR = PAIR * PAIR
IN_LANES = ROWS * (LENGTH * (2 * NARROW + 1) - NARROW * (NARROW + 1))
"""Number of matrix cells that are computed to compare a query with each series of a collection.

The collection has `ROWS` series of `LENGTH` points.  Only cells within the band `NARROW` count.
`ONE_PAIR` is the number of all cells in the matrix of one pair of series, without a band.
"""


@dataclass(frozen=True)
class Gate:
    """The least ratio of speeds that one of our calls must reach against another call, the peer.

    Both calls belong to the same task: ``ours`` is the name of our call, and ``peer`` is the name
    of the other call.  If ``cells`` is 0, the peer is another implementation, and the ratio says
    how many times as fast our call is.

    If ``cells`` is not 0, the peer is the micro-benchmark in `processor_limit`, and our call
    computes ``cells`` matrix cells.  The ratio is then the cells per second of our call, divided by
    the cells per second of the micro-benchmark.
    """

    title: str
    task: str
    ours: str
    peer: str
    at_least: float
    goal: float
    stops: bool = False
    cells: int = 0

    def measured(self, rows: Sequence[Row]) -> float | None:
        """Return the speed of our call divided by the peer's speed; None if a median is missing."""
        ours, peer = _row(rows, self.task, self.ours), _row(rows, self.task, self.peer)
        if not ours or not peer or not ours.median_s or not peer.median_s:
            return None
        ratio = peer.median_s / ours.median_s
        return ratio * self.cells / float(peer.answer) if self.cells else ratio

    def asked(self, instruction_set: str) -> float | None:
        """Return the ratio that must be reached on an instruction set; None if there is no gate."""
        share = SHARES.get(instruction_set)
        asked = None if share is None else self.at_least * share
        return max(STOP_BELOW, asked or 0.0) if self.stops else asked


@dataclass(frozen=True)
class Verdict:
    """What was measured for one gate, and whether the gate was reached."""

    title: str
    measured: float | None
    gate: float | None
    goal: float
    held: bool | None
    """Whether the gate was reached; None if there is no gate or no measurement."""
    stops: bool
    """Whether the run fails if the gate is missed."""
    unit: str
    """Unit of `measured`, `gate` and `goal`.

    ``x``: our call is this many times as fast as another implementation.  ``%``: the cells per
    second of our call, as a share of the limit that `processor_limit` measures; the value 0.5 is
    printed as 50%.  ``s``: a duration in seconds.  A value in seconds must be below the gate.  A
    value in another unit must be at least the gate.
    """


def _row(rows: Sequence[Row], task: str, name: str) -> Row | None:
    return next((row for row in rows if row.task == task and row.name == name), None)


_F32, _F64, _WASM = "midstreamer f32", "midstreamer f64", "midstreamer f32 WebAssembly in wasmtime"
_MIX = "sub, two min, fma"

GATES = (
    Gate("DTW 1000×1000 f32, dtaidistance", "pair", _F32, "dtaidistance", 50, 100),
    Gate("DTW 1000×1000 f64, dtaidistance", "pair", _F64, "dtaidistance", 28, 50),
    Gate("DTW 1000×1000 band 100 f32, dtaidistance", "band", _F32, "dtaidistance", 60, 100),
    Gate("LCSS 1000×1000 f32, aeon", "lcss", _F32, "aeon", 50, 80),
    Gate("WebAssembly DTW 1000×1000, textbook JavaScript", "pair", _WASM, "JavaScript, textbook",
         55, 100, stops=True),
    Gate("WebAssembly DTW 1000×1000, augurs in WebAssembly", "pair", _WASM,
         "augurs WebAssembly in V8", 10, 15),
    Gate("DTW 1000×1000 f32, textbook JavaScript", "pair", _F32, "JavaScript, textbook", 300, 450),
    Gate("Collection, brute force, dtaidistance with LB", "collection",
         "midstreamer, brute force in lanes", "dtaidistance with LB_Keogh", 40, 100),
    Gate("Collection, indexed, dtaidistance with LB", "collection", "midstreamer, indexed",
         "dtaidistance with LB_Keogh", 300, 1000),
    Gate("History, easy query, wildboar", "history-easy", "midstreamer", "wildboar", 6, 10),
    Gate("History, hard query, wildboar", "history-hard", "midstreamer", "wildboar", 7, 12),
    Gate("Monitor, a tick, SPRING in lanes", "monitor", "midstreamer", "SPRING in lanes", 1, 1.3),
    Gate("share of the limit, one pair f32", "limit", "one pair f32", _MIX, 0.42, 0.55,
         cells=ONE_PAIR),
    Gate("share of the limit, candidates in lanes", "limit", "candidates in lanes f32", _MIX,
         0.60, 0.75, cells=IN_LANES),
)  # fmt: skip


def verdicts(rows: Sequence[Row], instruction_set: str) -> list[Verdict]:
    """Return the result of each gate whose task was measured."""
    tasks = {row.task for row in rows}
    made = [_verdict(gate, rows, instruction_set) for gate in GATES if gate.task in tasks]
    if first_use.TASK in tasks:
        made += [_at_most(name, seconds, rows) for name, seconds in first_use.AT_MOST_S.items()]
    return made


def _verdict(gate: Gate, rows: Sequence[Row], instruction_set: str) -> Verdict:
    measured, asked = gate.measured(rows), gate.asked(instruction_set)
    held = None if measured is None or asked is None else measured >= asked
    unit = "%" if gate.cells else "x"
    return Verdict(gate.title, measured, asked, gate.goal, held, gate.stops, unit)


def _at_most(name: str, seconds: float, rows: Sequence[Row]) -> Verdict:
    found = _row(rows, first_use.TASK, name)
    measured = None if found is None else found.median_s
    held = None if measured is None else measured < seconds
    return Verdict(name, measured, seconds, seconds, held, stops=False, unit="s")


def stopped(made: Sequence[Verdict]) -> bool:
    """Return whether the run fails: a gate with ``stops`` was missed or could not be measured."""
    return any(each.stops and not each.held for each in made)
