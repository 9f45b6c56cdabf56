"""`make rolling`: restart every process of a fleet in turn, while clients send requests.

    python -m tests.rolling                    every process twice, by SIGTERM
    python -m tests.rolling --kill             the same by SIGKILL
    python -m tests.rolling --carrier wss --alone   over WebSocket
    python -m tests.rolling --rate 0.2         a fifth of 50 matches and 20 appends a second

Some processes of the fleet run the previous version, and some run this version. Each restart moves
a process to the other version. With --alone all processes and clients run this version.

Two clients append durably and match, one of them with the previous version's SDK. The table shows
for each event: failed requests, answers that took over 0.5 s, attempts that the SDK retried, the
slowest request, and the time until the fleet was complete again.
The exit code is 0 when no request failed (with --kill failures are allowed), nothing acknowledged
is lost, the store has no contradictions, and no log has a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fleet import machine
from midstreamer.telemetry import logs
from tests.rolling import drive, plan
from tests.rolling.judgement import Outcome
from tests.support import previous_version

ROUNDS = 2


def shown(result: drive.Result, options: drive.Options) -> Table:
    """Return a table of all events and their effects, for printing."""
    table = Table(title=title_of(options))
    rows = [figures(each) for each in result.outcomes]
    for heading in rows[0]:
        title = "" if heading == "what" else heading.replace("_", " ")
        table.add_column(title, justify="right" if title else "left")
    for row in rows:
        table.add_row(str(row.pop("what")), *(f"{value:g}" for value in row.values()))
    return table


def title_of(options: drive.Options) -> str:
    """Return the title of the table of events; it names SIGTERM or SIGKILL, and the carrier."""
    how = "SIGKILL" if options.kill else "SIGTERM"
    return f"Every process restarted by {how}, peers at {options.carrier}://"


def figures(outcome: Outcome) -> dict[str, Any]:
    """Return the figures of one event, for the table and for JSON."""
    return {
        "what": outcome.event.what,
        "failed": len(outcome.failed),
        "delayed": len(outcome.delayed),
        "repeated": len(outcome.retries),
        "slowest_append_s": round(outcome.slowest_s("append"), 2),
        "slowest_match_s": round(outcome.slowest_s("match"), 2),
        "longest_silence_s": round(outcome.silence_s, 2),
        "recovery_s": round(outcome.recovery_s, 2),
        "ended_s": round(outcome.event.ended_s, 2),
        "whole_s": round(outcome.event.back_s, 2),
        "requests": len(outcome.requests),
    }


def as_json(result: drive.Result, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the whole run as JSON values."""
    return {
        "machine": machine(),
        "before": previous_version.commit(),
        "options": {key: str(value) for key, value in vars(arguments).items()},
        "events": [
            figures(each)
            | {
                "signal": each.event.signal,
                "slowest": [
                    [
                        request.client,
                        request.what,
                        round(request.due_s - each.event.at_s, 2),
                        round(request.took_s, 2),
                    ]
                    for request in sorted(each.requests, key=lambda request: -request.took_s)[:20]
                ],
                "errors": sorted({request.error[:200] for request in each.failed}),
                "retries": sorted({retry.error[:200] for retry in each.retries}),
            }
            for each in result.outcomes
        ],
        "ticks": result.ticks,
        "decisions": result.decisions,
        "broken": result.broken,
    }


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="make rolling", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="restarts of each process")
    parser.add_argument("--rate", type=float, default=1.0, help="share of the usual load")
    parser.add_argument("--kill", action="store_true", help="SIGKILL instead of SIGTERM")
    parser.add_argument("--alone", action="store_true", help="all processes run this version")
    parser.add_argument(
        "--carrier",
        choices=("quic", "quic+wss", "wss"),
        default="quic",
        help="carrier between peers of this version; wss only with --alone",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the order of restarts")
    parser.add_argument("--keep", type=Path, help="keep logs and database in this folder")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    if arguments.carrier == "wss" and not arguments.alone:
        parser.error(
            "the previous version does not support --carrier wss: add --alone, so that all"
            " processes run this version"
        )
    return arguments


def main() -> int:
    """Run the plan, print the results, and return 1 when a promise is broken."""
    arguments = parsed()
    logs.configure(json=False, level="error")
    screen = Console(width=None if sys.stdout.isatty() else 160)
    options = drive.Options(
        arguments.rate, kill=arguments.kill, keep=bool(arguments.keep), carrier=arguments.carrier
    )
    chosen = plan.make(arguments.seed, rounds=arguments.rounds, alone=arguments.alone)
    with tempfile.TemporaryDirectory(prefix="midstreamer-rolling-") as folder:
        where = (arguments.keep or Path(folder)).absolute()
        result = asyncio.run(drive.run(chosen, options, where, screen.print))
    screen.print(shown(result, options))
    screen.print(f"acknowledged: {result.ticks:,} ticks, {result.decisions:,} decisions")
    for each in result.broken:
        screen.print(f"does not hold: {each}", markup=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(result, arguments), indent=2) + "\n", "utf-8")
    return 1 if result.broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped before the end: no result")
