"""Where the processes of a fleet spend their time under load, as flame graphs and as a table.

`py-spy <https://github.com/benfred/py-spy>`_ looks at each process fifty times a second from
outside and writes which functions it is in; what waits is left out.  The table tells for each
function the share of samples in which it was on top of the stack (itself), and anywhere on it (with
what it calls).
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

from midstreamer.cli.child import Child
from midstreamer.domain.errors import MidstreamerError

PROGRAM = Path(sys.executable).with_name("py-spy")
LOOKS_PER_S = 50
WRITES_S = 30.0
ROWS = 15
WAITS = ("EpollSelector.select ", "_worker (concurrent/futures/thread.py")
"""A loop without work and an idle thread of a pool look busy to py-spy at times."""
_SVG, _IN_SAMPLES = "{http://www.w3.org/2000/svg}", "{http://github.com/jonhoo/inferno}"
_TITLE = re.compile(r"(?P<name>.*) \([\d,]+ samples?, [\d.]+%\)")


class Box(NamedTuple):
    """One box of a flame graph; ``x`` and ``width`` in samples, whoever calls has the lesser y."""

    x: int
    y: float
    width: int
    name: str


@dataclass
class Profile:
    """Samples of one process, by function."""

    samples: int = 0
    itself: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)
    """Samples in which a function was anywhere on the stack; once, also when it calls itself."""


def prepare(folder: Path) -> None:
    """Make a folder for profiles; raises MidstreamerError when py-spy is not there."""
    if not PROGRAM.exists():
        raise MidstreamerError("--profile needs py-spy: make dev installs it")
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.asynccontextmanager
async def recorded(children: Iterable[Child], folder: Path | None) -> AsyncIterator[None]:
    """Watch processes meanwhile and write ``<name>.svg`` for each; without a folder do nothing.

    Raises MidstreamerError when py-spy may not look at them.
    """
    if folder is None:
        yield
        return
    watching = [await _start(child, folder) for child in children]
    try:
        yield
    finally:
        ended = [await _end(each) for each in watching]
    if said := "; ".join(filter(None, ended)):
        raise MidstreamerError(f"py-spy wrote no profile: {said}")


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
    """Let it write what it has; its last words when it could not."""
    with contextlib.suppress(ProcessLookupError):
        watching.send_signal(signal.SIGINT)
    try:
        _, said = await asyncio.wait_for(watching.communicate(), WRITES_S)
    except TimeoutError:
        watching.kill()
        return f"it took longer than {WRITES_S:g} s"
    return "" if watching.returncode == 0 else said.decode(errors="replace").strip()[-500:]


def read(path: Path) -> Profile:
    """What a flame graph of py-spy shows: its boxes have name and samples in their titles."""
    boxes = []
    for group in ElementTree.parse(path).iter(f"{_SVG}g"):
        title, rect = group.find(f"{_SVG}title"), group.find(f"{_SVG}rect")
        found = _TITLE.fullmatch(title.text or "") if title is not None else None
        if rect is not None and found:
            x, width = (int(rect.get(f"{_IN_SAMPLES}{each}", "0")) for each in "xw")
            boxes.append(Box(x, float(rect.get("y", "0")), width, found["name"]))
    return added(boxes)


def added(boxes: Iterable[Box]) -> Profile:
    """Add boxes up by function; the one that spans all is no function, and waiting is left out."""
    profile = Profile()
    for stack, own in _stacks(boxes):
        if not stack or stack[-1].startswith(WAITS):
            continue
        profile.samples += own
        profile.itself[stack[-1]] += own
        profile.within.update(dict.fromkeys(stack, own))
    return profile


def _stacks(boxes: Iterable[Box]) -> Iterator[tuple[list[str], int]]:
    """The names from whoever calls first to each box, and the samples in which it was on top."""
    callers: list[Box] = []
    own: list[int] = []

    def end() -> tuple[list[str], int]:
        names = [each.name for each in callers[1:]]
        callers.pop()
        return names, own.pop()

    for box in sorted(boxes):  # from left to right, and whoever calls before whom it calls
        while callers and box.x >= callers[-1].x + callers[-1].width:
            yield end()
        if own:
            own[-1] -= box.width
        callers.append(box)
        own.append(box.width)
    while callers:
        yield end()


def table(name: str, profile: Profile) -> Table:
    """The functions that most samples were in, of one process."""
    made = Table(title=f"{name}: {profile.samples:,} samples of {LOOKS_PER_S} a second")
    made.add_column("function")
    for heading in ("itself", "with what it calls"):
        made.add_column(heading, justify="right")
    for function, count in profile.itself.most_common(ROWS):
        shares = (each / profile.samples for each in (count, profile.within[function]))
        made.add_row(function, *(f"{share:.1%}" for share in shares))
    return made
