"""Replay a shipped data set to a fleet from outside, and compare with a local run to the bit.

    python -m tests.cluster.replay fleet --addresses A,B --certs DIR --write there.jsonl
    python -m tests.cluster.replay local --write here.jsonl
    python -m tests.cluster.replay compare here.jsonl there.jsonl

`fleet` loads the history and replays the live part, as `midstreamer replay` does; --data, --start,
--stop and --series choose what, and `local` needs the same ones.  `local` starts a fleet of
processes here for the time of the replay.  --stop 2020-07-01 takes a fifth of the usual part.

A file has one JSON object a line, in the order of time and series: what people look for in a
decision or verdict, the SHA-256 of the whole as it is stored, and a short one of each field, which
tells where two differ.  Equal files mean equal to the bit.  `compare` ends with 0 when they are,
and else with 1 and the first differences.
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
from midstreamer.cli import run as runs
from midstreamer.cli import state
from midstreamer.cli.config import RunSettings
from midstreamer.cli.local import LocalFleet
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.verdict import Verdict
from midstreamer.market import replay
from midstreamer.runtime import shutdown
from midstreamer.telemetry import logs
from tests.cluster import host
from tests.cluster.load import add_client_arguments

TOLD_EVERY_S = 5.0
SHOWN = 5
FIELD_DIGITS = 16
Made = Decision | Verdict


def line(made: Made) -> str:
    """A decision or verdict as a line of a file."""
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
    """All of them in their order: by time and series, a decision before its verdict."""
    several = sorted(made, key=lambda each: (each.time, each.series, isinstance(each, Verdict)))
    return [line(each) for each in several]


def differences(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """What two files do not have in common, in words; empty when they are equal to the bit."""
    here, there = dict(_named(one)), dict(_named(other))
    told = [f"{name} is in the first file only" for name in here if name not in there]
    told += [f"{name} is in the second file only" for name in there if name not in here]
    told += [
        f"{name} differs in {', '.join(_fields(here[name], there[name]))}"
        for name in here
        if name in there and here[name] != there[name]
    ]
    if not told and list(one) != list(other):
        told.append("the order of lines differs, or a line is there twice")
    return told


def _named(several: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, text in enumerate(several, start=1):
        try:
            words = json.loads(text)
            name = f"{words['kind']} on {words['series']} at {words['time']}"
            dict.keys(words["fields"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise host.KitError(
                f"line {number}, {text[:60]!r}, is no decision: name a file that"
                " `python -m tests.cluster.replay` wrote"
            ) from error
        yield name, words


def _fields(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    names = {**one["fields"], **other["fields"]}
    differing = [each for each in names if one["fields"].get(each) != other["fields"].get(each)]
    return differing or ["the order or number of its fields"]


# --- replaying --------------------------------------------------------------------------------


@dataclass
class Told:
    """What a replay was answered."""

    decisions: list[Decision] = field(default_factory=list)
    waits: int = 0
    _told_s: float = float("-inf")

    def hear(self, event: replay.Event) -> None:
        """One event of a replay; tells people now and then how far it is."""
        match event:
            case replay.Stepped() | replay.Resumed():
                self.decisions += event.decisions
                self._tell(f"{event.done} of {event.total} steps, {len(self.decisions)} decisions")
            case replay.Loading():
                self._tell(f"{event.done:,} of {event.total:,} ticks of history")
            case replay.Waiting():
                self.waits += 1
                host.say(f"waiting: {event.code}: {event.message}")

    def _tell(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s > TOLD_EVERY_S:
            self._told_s = now_s
            host.say(text)


async def replayed(client: AsyncClient, job: runs.Job) -> list[Made]:
    """Replay one job and return its decisions, and their verdicts as they are stored."""
    told = Told()
    plan = replay.ReplayPlan(job.specification, job.live, history=job.history)
    await replay.Replay(client, plan, told.hear).run()
    found = await client.lookup(each.experience_id for each in told.decisions)
    host.say(
        f"{len(told.decisions)} decisions, {len(found.verdicts)} verdicts;"
        f" {told.waits} attempts were repeated"
    )
    return [*told.decisions, *found.verdicts]


@asynccontextmanager
async def local_client(agents: int) -> AsyncIterator[AsyncClient]:
    """A client of a fleet of processes that lasts as long, and leaves nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="midstreamer-replay-") as folder,
        state.held(Path(folder)) as place,
    ):
        fleet = LocalFleet(place, RunSettings(agents=agents), config_file=None, news=host.say)
        try:
            async with fleet, AsyncClient(fleet.client_carrier(), [fleet.coordinator]) as client:
                yield client
        finally:
            await fleet.server.erase()


def client_of(arguments: argparse.Namespace) -> AbstractAsyncContextManager[AsyncClient]:
    """A client of the fleet that the arguments name."""
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
    """Replay as the arguments say, and write what was decided; raises MidstreamerError, OSError."""
    chosen = runs.selection((arguments.data,), arguments.start, arguments.stop, arguments.series)
    (job,) = runs.jobs(chosen)
    began_s = time.monotonic()
    with arguments.write.open("w", encoding="utf-8") as file:
        async with client_of(arguments) as client:
            file.writelines(lines(await replayed(client, job)))
    host.say(f"wrote {arguments.write} after {time.monotonic() - began_s:.1f} s")


def compare(arguments: argparse.Namespace) -> int:
    """Say what differs; returns the exit code."""
    one, other = (
        path.read_text(encoding="utf-8").splitlines(keepends=True)
        for path in (arguments.one, arguments.other)
    )
    found = differences(one, other)
    if not one and not other:
        found = ["both files are empty: nothing was compared"]
    for each in found[:SHOWN]:
        host.say(f"does not hold: {each}")
    if len(found) > SHOWN:
        host.say(f"does not hold: {len(found) - SHOWN} more")
    if not found:
        host.say(f"{len(one)} decisions and verdicts, equal to the bit")
    return 1 if found else 0


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shown = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        "python -m tests.cluster.replay", description=__doc__, formatter_class=shown
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    fleet, local = verbs.add_parser("fleet"), verbs.add_parser("local")
    add_client_arguments(fleet)
    local.add_argument("--agents", type=int, default=1)
    for one in (fleet, local):
        one.add_argument("--write", required=True, type=Path, help="file of decisions, replaced")
        one.add_argument("--data", default="sp500", help="sp500, load, or a file")
        one.add_argument("--start", default="", help="where the live part begins")
        one.add_argument("--stop", default="", help="where the live part ends")
        one.add_argument("--series", default="", help="some alone, separated by commas")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    return made


def main() -> int:
    """Do what the command line says; a refusal is one message and exit code 2."""
    arguments = parser().parse_args()
    logs.configure(json=False, level="error")
    try:
        if arguments.verb == "compare":
            return compare(arguments)
        stopped = shutdown.run(write(arguments))
        if stopped is None:
            return 0
        sys.stderr.write(
            "replay: stopped; the same command goes on where it stopped if the fleet is there\n"
        )
        return 128 + stopped
    except MidstreamerError as error:
        told = f"error[{error.code}]: {error.message}"
    except (host.KitError, OSError) as error:
        told = str(error)
    sys.stderr.write(f"replay: {told}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
