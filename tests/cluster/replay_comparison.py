"""Replay a data set to a fleet from outside, and compare the result with a local run, bit by bit.

    python -m tests.cluster.replay_comparison fleet --addresses A,B --certs DIR --write there.jsonl
    python -m tests.cluster.replay_comparison local --write here.jsonl
    python -m tests.cluster.replay_comparison compare here.jsonl there.jsonl

`fleet` loads the history and replays the live part, as `midstreamer replay` does.  --data, --start,
--stop and --series choose the data; give `local` the same values.  `local` starts a fleet of
processes on this machine for the time of the replay.  --stop 2020-07-01 shortens the live part to a
fifth of its default length.

An output file has one JSON object a line, sorted by time and series.  Each object has the main
values of a decision or verdict, the SHA-256 of the stored decision or verdict, and a short hash of
each field, which shows the fields in which two files differ.  When two files are equal, their
decisions are equal in every bit.  `compare` ends with 0 when the files are equal; else it prints
the first differences and ends with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from midstreamer import AsyncClient
from midstreamer.cli import run_work as runs
from midstreamer.cli import state_folder
from midstreamer.cli.local_fleet import LocalFleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.verdict import Verdict
from midstreamer.market import replay
from midstreamer.runtime import shutdown
from midstreamer.telemetry import logs
from tests.cluster import commands_here
from tests.cluster.load import add_client_arguments

TOLD_EVERY_S = 5.0
SHOWN = 5
FIELD_DIGITS = 16
Made = Decision | Verdict


def line(made: Made) -> str:
    """Return a decision or verdict as one line of an output file."""
    kind = "decision" if isinstance(made, Decision) else "verdict"
    words: dict[str, Any] = {
        "kind": kind,
        "series": made.series,
        "time": made.time,
        "experience_id": made.experience_id.hex(),
    }
    if isinstance(made, Decision):
        words |= {"direction": made.direction, "probability": made.probability}
    encode = msgspec.msgpack.encode
    words["sha256"] = hashlib.sha256(encode(made)).hexdigest()
    names = type(made).__struct_fields__
    words["fields"] = {
        name: hashlib.sha256(encode(getattr(made, name))).hexdigest()[:FIELD_DIGITS]
        for name in names
    }
    return json.dumps(words) + "\n"


def lines(made: Iterable[Made]) -> list[str]:
    """Return a line for each decision and verdict, sorted by time and series.

    A decision comes before its verdict.
    """
    several = sorted(made, key=lambda each: (each.time, each.series, isinstance(each, Verdict)))
    return [line(each) for each in several]


def differences(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return a sentence for each difference between two files; empty when the files are equal."""
    here, there = dict(_named(one)), dict(_named(other))
    sentences = [f"{name} is in the first file only" for name in here if name not in there]
    sentences += [f"{name} is in the second file only" for name in there if name not in here]
    sentences += [
        f"{name} differs in {', '.join(_fields(here[name], there[name]))}"
        for name in here
        if name in there and here[name] != there[name]
    ]
    if not sentences and list(one) != list(other):
        sentences.append("the order of lines differs, or a line is repeated")
    return sentences


def _named(several: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, text in enumerate(several, start=1):
        try:
            words = json.loads(text)
            name = f"{words['kind']} on {words['series']} at {words['time']}"
            dict.keys(words["fields"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise commands_here.KitError(
                f"line {number}, {text[:60]!r}, is no decision or verdict: give a file that"
                " `python -m tests.cluster.replay_comparison` wrote"
            ) from error
        yield name, words


def _fields(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    names = {**one["fields"], **other["fields"]}
    differing = [each for each in names if one["fields"].get(each) != other["fields"].get(each)]
    return differing or ["the order or number of its fields"]


# --- replaying --------------------------------------------------------------------------------


@dataclass
class Told:
    """The decisions that a replay has received so far.

    `waits` counts how often the replay had to wait and try again.
    """

    decisions: list[Decision] = field(default_factory=list)
    waits: int = 0
    _told_s: float = float("-inf")

    def hear(self, event: replay.Event) -> None:
        """Record one event of a replay; print the progress at most every TOLD_EVERY_S seconds."""
        match event:
            case replay.Stepped() | replay.Resumed():
                self.decisions += event.decisions
                self._tell(f"{event.done} of {event.total} steps, {len(self.decisions)} decisions")
            case replay.Loading():
                self._tell(f"{event.done:,} of {event.total:,} ticks of history")
            case replay.Waiting():
                self.waits += 1
                commands_here.say(f"waiting: {event.code}: {event.message}")

    def _tell(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s > TOLD_EVERY_S:
            self._told_s = now_s
            commands_here.say(text)


async def replayed(client: AsyncClient, job: runs.Job) -> list[Made]:
    """Replay the ticks of `job.live` to a fleet; return the decisions and their verdicts.

    The verdicts are read from the fleet after the replay.
    """
    received = Told()
    plan = replay.ReplayPlan(job.specification, job.live, history=job.history)
    await replay.Replay(client, plan, received.hear).run()
    found = await client.lookup(each.experience_id for each in received.decisions)
    commands_here.say(
        f"{len(received.decisions)} decisions, {len(found.verdicts)} verdicts;"
        f" {received.waits} retries"
    )
    return [*received.decisions, *found.verdicts]


@asynccontextmanager
async def local_client(agents: int) -> AsyncIterator[AsyncClient]:
    """Start a fleet of processes and return a client of it; at exit, remove fleet and files."""
    with (
        tempfile.TemporaryDirectory(prefix="midstreamer-replay-") as folder,
        state_folder.held(Path(folder)) as place,
    ):
        fleet = LocalFleet(
            place, RunSettings(agents=agents), config_file=None, news=commands_here.say
        )
        try:
            async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
                yield client
        finally:
            await fleet.server.erase()


def client_of(arguments: argparse.Namespace) -> AbstractAsyncContextManager[AsyncClient]:
    """Return a client of the fleet that the arguments name, or of a local fleet."""
    if arguments.verb == "local":
        return local_client(arguments.agents)
    return AsyncClient.connect(
        arguments.addresses,
        directory=arguments.certs,
        identity=arguments.identity,
        deadline_s=arguments.deadline_s,
        proxy=arguments.proxy,
    )


async def write(arguments: argparse.Namespace) -> None:
    """Replay the data that the arguments choose; write decisions and verdicts to the output file.

    Raises MidstreamerError, OSError.
    """
    chosen = runs.selection((arguments.data,), arguments.start, arguments.stop, arguments.series)
    (job,) = runs.jobs(chosen)
    began_s = time.monotonic()
    with arguments.write.open("w", encoding="utf-8") as file:
        async with client_of(arguments) as client:
            file.writelines(lines(await replayed(client, job)))
    commands_here.say(f"wrote {arguments.write} after {time.monotonic() - began_s:.1f} s")


def compare(arguments: argparse.Namespace) -> int:
    """Print the differences between two files; return the exit code: 0 when they are equal."""
    one, other = (
        path.read_text(encoding="utf-8").splitlines(keepends=True)
        for path in (arguments.one, arguments.other)
    )
    found = differences(one, other)
    if not one and not other:
        found = ["both files are empty: nothing was compared"]
    for each in found[:SHOWN]:
        commands_here.say(f"does not hold: {each}")
    if len(found) > SHOWN:
        commands_here.say(f"does not hold: {len(found) - SHOWN} more differences")
    if not found:
        commands_here.say(f"{len(one)} decisions and verdicts, equal to the bit")
    return 1 if found else 0


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        "python -m tests.cluster.replay_comparison", description=__doc__, formatter_class=shown
    )
    verbs = root.add_subparsers(dest="verb", required=True, metavar="VERB")
    fleet, local = verbs.add_parser("fleet"), verbs.add_parser("local")
    add_client_arguments(fleet)
    local.add_argument("--agents", type=int, default=1)
    for verb_parser in (fleet, local):
        verb_parser.add_argument(
            "--write", required=True, type=Path, help="output file, overwritten"
        )
        verb_parser.add_argument("--data", default="sp500", help="sp500, load, or a file's path")
        verb_parser.add_argument("--start", default="", help="where the live part begins")
        verb_parser.add_argument("--stop", default="", help="where the live part ends")
        verb_parser.add_argument("--series", default="", help="only these, separated by commas")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    return root


def main() -> int:
    """Run the command line and return the exit code.

    On a known error, print one message and return 2.
    """
    arguments = parser().parse_args()
    logs.configure(json=False, level="error")
    try:
        if arguments.verb == "compare":
            return compare(arguments)
        stopped = shutdown.run(write(arguments))
        if stopped is None:
            return 0
        sys.stderr.write(
            "replay: stopped; if the fleet still runs, the same command resumes the replay\n"
        )
        return 128 + stopped
    except MidstreamerError as error:
        message = f"error[{error.code}]: {error.message}"
    except (commands_here.KitError, OSError) as error:
        message = str(error)
    sys.stderr.write(f"replay: {message}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
