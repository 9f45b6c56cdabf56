"""Boards and alerts: ``python -m dashboards build|lint|check|test|list|live|pictures|alerts-live``.

* ``build`` writes boards to charts/midstreamer/dashboards, alerts and recordings to its rules;
* ``lint`` holds boards to `dashboards.linting`, alerts and recordings to `dashboards.rule_linting`;
* ``check`` does the same, and names files that differ from what would be built;
* ``test`` has promtool check the rules, and run the cases of each alert;
* ``list`` names the boards with the questions of their rows;
* ``live`` asks every query of a real Prometheus that scrapes a real fleet under load;
* ``pictures`` draws every board from what that run was answered;
* ``alerts-live`` makes each fault on a real fleet, and waits until its alert fires.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable

from dashboards import built, folders, linting, promtool, reading, rule_linting, rules
from dashboards.recordings import RECORDINGS
from midstreamer.telemetry import logs
from tests.cluster import build as programs

LIVE_S = 90.0


def build() -> int:
    """Write what is behind the code."""
    for path in folders.write(built.files() | rules.files()):
        print(f"{'wrote' if path.is_file() else 'removed'} {path.relative_to(built.ROOT)}")
    return 0


def lint() -> int:
    """Print complaints; 1 when there are any."""
    found = [
        *linting.complaints(board.read() for board in built.boards()),
        *rule_linting.complaints(rules.alerts(), RECORDINGS),
    ]
    for complaint in found:
        print(complaint)
    return 1 if found else 0


def check() -> int:
    """Print complaints and files that differ; 1 when there are any."""
    behind = folders.behind(built.files() | rules.files())
    for path in behind:
        print(f"{path.relative_to(built.ROOT)} is behind the code: run make dashboards")
    return lint() or int(bool(behind))


def test() -> int:
    """Have promtool check the rules and run the cases of each alert; 1 when one is not as told."""
    program = programs.program("promtool")
    told = promtool.checked(program) or promtool.tested(program, rules.alerts())
    print(told or f"promtool: {len(rules.alerts())} alerts do as their cases say")
    return int(bool(told))


def show() -> int:
    """Name the boards and what they answer."""
    for board in built.boards():
        read = board.read()
        several = list(reading.panels(read))
        queries = sum(len(panel.queries) for panel in several)
        print(f"{board.title}: {len(several)} panels, {queries} queries ({board.uid})")
        for question in reading.rows(read):
            print(f"  {question}")
    return 0


def live(seconds: float = LIVE_S) -> int:
    """Ask every query; 1 when one has no data, 2 when something did not start."""
    from dashboards import live as running

    try:
        return asyncio.run(running.run(seconds))
    except AssertionError as error:  # what tests start says so when it does not come up
        print(f"could not look: {error}")
        return 2


def alerts_live(factor: float, only: list[str], healthy_s: float | None) -> int:
    """Make each fault, wait for its alerts; 1 when one does not fire, or one does in health."""
    from dashboards import alerts_live as running

    logs.configure(json=False, level="error")  # clients that are refused all the time say much
    return asyncio.run(running.run(factor, only, healthy_s))


def pictures() -> int:
    """Draw every board from the last run of ``live``; 1 when there was none."""
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
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Boards for Grafana.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in COMMANDS.items():
        commands.add_parser(name, help=function.__doc__)
    running = commands.add_parser("live", help=live.__doc__)
    running.add_argument("--seconds", type=float, default=LIVE_S, help="of load before asking")
    faults = commands.add_parser("alerts-live", help=alerts_live.__doc__)
    faults.add_argument("--factor", type=float, default=30.0, help="by which durations are divided")
    faults.add_argument("--only", nargs="*", default=[], help="names of alerts")
    faults.add_argument("--healthy", type=float, help="seconds of health; an hour, divided")
    given = parser.parse_args()
    if given.command == "alerts-live":
        return alerts_live(given.factor, given.only, given.healthy)
    return live(given.seconds) if given.command == "live" else COMMANDS[given.command]()


if __name__ == "__main__":
    sys.exit(main())
