"""Commands for dashboards and alerts: ``python -m dashboards COMMAND``.

* ``build`` writes the dashboards to charts/midstreamer/dashboards, and the alerts and recording
  rules to charts/midstreamer/rules;
* ``lint`` checks the dashboards with `dashboards.dashboard_linting`, and the alerts and recording
  rules with `dashboards.rule_linting`;
* ``check`` does what ``lint`` does, and also names built files that are out of date;
* ``test`` checks the rules with promtool, and runs the test cases of each alert;
* ``list`` prints each dashboard with the questions that its rows of panels answer;
* ``live`` sends every query to a real Prometheus that scrapes a real fleet under load;
* ``pictures`` draws every dashboard from the results of the last ``live`` run;
* ``alerts-live`` causes each fault on a real fleet, and waits until its alert fires.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable

from dashboards import (
    board_reader,
    built_dashboards,
    built_files,
    dashboard_linting,
    promtool,
    rule_linting,
    rules,
)
from dashboards.recording_rules import RECORDINGS
from midstreamer.telemetry import logs
from tests.cluster import program_builds as programs

LIVE_S = 90.0
"""Default seconds of load in a ``live`` run."""


def build() -> int:
    """Write the built files that are out of date."""
    for path in built_files.write(built_dashboards.files() | rules.files()):
        print(
            f"{'wrote' if path.is_file() else 'removed'} {path.relative_to(built_dashboards.ROOT)}"
        )
    return 0


def lint() -> int:
    """Check dashboards, alerts and recording rules; exit status 1 if there are complaints."""
    found = [
        *dashboard_linting.complaints(board.read() for board in built_dashboards.boards()),
        *rule_linting.complaints(rules.alerts(), RECORDINGS),
    ]
    for complaint in found:
        print(complaint)
    return 1 if found else 0


def check() -> int:
    """Run `lint`, and name outdated built files; exit status 1 for a complaint or such a file."""
    behind = built_files.behind(built_dashboards.files() | rules.files())
    for path in behind:
        print(f"{path.relative_to(built_dashboards.ROOT)} is out of date: run make dashboards")
    return lint() or int(bool(behind))


def test() -> int:
    """Check the rules with promtool, run each alert's test cases; exit status 1 on failure."""
    program = programs.program("promtool")
    failures = promtool.checked(program) or promtool.tested(program, rules.alerts())
    print(failures or f"promtool: {len(rules.alerts())} alerts pass their test cases")
    return int(bool(failures))


def show() -> int:
    """Print the number of panels and of queries of each dashboard, and the titles of its rows.

    The title of a row is a question that the panels of the row answer.
    """
    for board in built_dashboards.boards():
        read = board.read()
        shown = list(board_reader.panels(read))
        queries = sum(len(panel.queries) for panel in shown)
        print(f"{board.title}: {len(shown)} panels, {queries} queries ({board.uid})")
        for question in board_reader.rows(read):
            print(f"  {question}")
    return 0


def live(seconds: float = LIVE_S) -> int:
    """Send every query to a Prometheus that scrapes a fleet under load.

    The exit status is 1 if a query has no data, and 2 if a process did not start.
    """
    from dashboards import live as running

    try:
        return asyncio.run(running.run(seconds))
    except AssertionError as error:  # a process of the fleet did not start
        print(f"the fleet could not be started: {error}")
        return 2


def alerts_live(factor: float, only: list[str], healthy_s: float | None) -> int:
    """Cause each fault on a real fleet and wait for its alerts.

    The exit status is 1 if an alert does not fire, or if an alert fires without a fault.
    """
    from dashboards import alerts_live as running

    # At lower levels the log would be flooded by clients whose requests are refused.
    logs.configure(json=False, level="error")
    return asyncio.run(running.run(factor, only, healthy_s))


def pictures() -> int:
    """Draw every dashboard from the last ``live`` run; exit status 1 if there was no such run."""
    from dashboards import pictures as drawing

    return drawing.main()


COMMANDS: dict[str, Callable[[], int]] = {
    "build": build,
    "lint": lint,
    "check": check,
    "test": test,
    "list": show,
    "pictures": pictures,
}


def main() -> int:
    """Run the command that the arguments name, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards", description="Build and check the dashboards and alerts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in COMMANDS.items():
        commands.add_parser(name, help=function.__doc__)
    running = commands.add_parser("live", help=live.__doc__)
    running.add_argument(
        "--seconds", type=float, default=LIVE_S, help="seconds of load before the queries are sent"
    )
    faults = commands.add_parser("alerts-live", help=alerts_live.__doc__)
    faults.add_argument(
        "--factor", type=float, default=30.0, help="all durations are divided by this number"
    )
    faults.add_argument(
        "--only", nargs="*", default=[], help="names of the alerts to test; default: all"
    )
    faults.add_argument(
        "--healthy",
        type=float,
        help="seconds without a fault at the start; default: one hour divided by the factor",
    )
    given = parser.parse_args()
    # SIGTERM ends the fleet and Prometheus in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        if given.command == "alerts-live":
            return alerts_live(given.factor, given.only, given.healthy)
        return live(given.seconds) if given.command == "live" else COMMANDS[given.command]()
    return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
