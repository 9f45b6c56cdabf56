"""Profile the processes of a fleet under load, as flame graphs and as a table.

`py-spy <https://github.com/benfred/py-spy>`_ samples the call stack of each process fifty times per
second from outside.  Samples of waiting threads are left out.  The table shows for each function
the share of samples in which the function was on top of the stack ("itself"), and anywhere on the
stack ("with what it calls").
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from rich.table import Table

from midstreamer.cli.child_processes import Child
from midstreamer.domain.errors import MidstreamerError

PROGRAM = Path(sys.executable).with_name("py-spy")
LOOKS_PER_S = 50
"""Samples per second."""
WRITES_S = 30.0
"""Longest time in seconds that py-spy may take to write its file."""
ROWS = 15
"""Number of functions in the table of a process."""
WAITS = ("EpollSelector.select ", "_worker (concurrent/futures/thread.py")
"""Beginnings of the names of functions in which idle event loops and idle pool threads wait.

py-spy may take such a thread for a busy one, so `added` leaves these samples out.
"""
_SVG, _IN_SAMPLES = "{http://www.w3.org/2000/svg}", "{http://github.com/jonhoo/inferno}"
_TITLE = re.compile(r"(?P<name>.*) \([\d,]+ samples?, [\d.]+%\)")


class Box(NamedTuple):
    """One rectangle of a flame graph: a function, called by the function in the box above.

    ``x`` and ``width`` are in samples. ``y`` is in pixels, and grows from callers to called
    functions.
    """

    x: int
    y: float
    width: int
    name: str


@dataclass
class Profile:
    """Numbers of samples of a process: in total, and for each function.

    A sample is one call stack. ``itself`` counts, for each function, the samples in which the
    function itself ran, and none of the functions that it calls.
    """

    samples: int = 0
    itself: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)
    """For each function, the number of samples in which it was anywhere on the call stack.

    A sample counts once for a function, even if the function called itself.
    """


def prepare(folder: Path) -> None:
    """Create the folder for profiles; raise MidstreamerError if py-spy is not installed."""
    if not PROGRAM.exists():
        raise MidstreamerError("--profile needs py-spy: make dev installs it")
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.asynccontextmanager
async def recorded(children: Iterable[Child], folder: Path | None) -> AsyncIterator[None]:
    """Profile processes while the block runs, and write ``<name>.svg`` for each into a folder.

    Without a folder, do nothing.  Raise MidstreamerError if py-spy writes no profile, such as for
    lack of permission.
    """
    if folder is None:
        yield
        return
    watching = [await _start(child, folder) for child in children]
    try:
        yield
    finally:
        ended = [await _end(each) for each in watching]
    if errors := "; ".join(filter(None, ended)):
        raise MidstreamerError(f"py-spy wrote no profile: {errors}")


async def _start(child: Child, folder: Path) -> asyncio.subprocess.Process:
    assert child.process is not None
    words = [
        "--format",
        "flamegraph",
        "--function",
        "--rate",
        str(LOOKS_PER_S),
        "--pid",
        str(child.process.pid),
    ]
    return await asyncio.create_subprocess_exec(
        str(PROGRAM), "record", *words, "--output", str(folder / f"{child.name}.svg"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


async def _end(watching: asyncio.subprocess.Process) -> str:
    """Stop py-spy so that it writes its file; return the reason if this failed, else ""."""
    with contextlib.suppress(ProcessLookupError):
        watching.send_signal(signal.SIGINT)
    try:
        _, output = await asyncio.wait_for(watching.communicate(), WRITES_S)
    except TimeoutError:
        watching.kill()
        return f"it took longer than {WRITES_S:g} s"
    return "" if watching.returncode == 0 else output.decode(errors="replace").strip()[-500:]


def read(path: Path) -> Profile:
    """Return the profile in a flame graph that py-spy wrote (an SVG file)."""
    boxes = []
    for group in ElementTree.parse(path).iter(f"{_SVG}g"):
        title, rect = group.find(f"{_SVG}title"), group.find(f"{_SVG}rect")
        found = _TITLE.fullmatch(title.text or "") if title is not None else None
        if rect is not None and found:
            x, width = (int(rect.get(f"{_IN_SAMPLES}{each}", "0")) for each in "xw")
            boxes.append(Box(x, float(rect.get("y", "0")), width, found["name"]))
    return added(boxes)


def added(boxes: Iterable[Box]) -> Profile:
    """Return the profile of a flame graph, by adding up the samples of each function.

    Samples in which a function of `WAITS` ran are left out. So is the root of the graph, the box
    for all samples, because it is no function.
    """
    profile = Profile()
    for stack, own in _stacks(boxes):
        if not stack or stack[-1].startswith(WAITS):
            continue
        profile.samples += own
        profile.itself[stack[-1]] += own
        profile.within.update(dict.fromkeys(stack, own))
    return profile


def _stacks(boxes: Iterable[Box]) -> Iterator[tuple[list[str], int]]:
    """Yield, for each box of a flame graph, its call stack and a number of samples.

    The call stack lists names of functions, from the outermost caller to the function of the box.
    The samples are those in which this function itself ran, not a function that it called.
    """
    callers: list[Box] = []
    own: list[int] = []

    def end() -> tuple[list[str], int]:
        names = [each.name for each in callers[1:]]
        callers.pop()
        return names, own.pop()

    for box in sorted(boxes):  # from left to right, callers before the functions they call
        while callers and box.x >= callers[-1].x + callers[-1].width:
            yield end()
        if own:
            own[-1] -= box.width
        callers.append(box)
        own.append(box.width)
    while callers:
        yield end()


def table(name: str, profile: Profile) -> Table:
    """Return a table of the `ROWS` functions with the most samples in a process."""
    result = Table(title=f"{name}: {profile.samples:,} samples, {LOOKS_PER_S} per second")
    result.add_column("function")
    for heading in ("itself", "with what it calls"):
        result.add_column(heading, justify="right")
    for function, count in profile.itself.most_common(ROWS):
        shares = (each / profile.samples for each in (count, profile.within[function]))
        result.add_row(function, *(f"{share:.1%}" for share in shares))
    return result
