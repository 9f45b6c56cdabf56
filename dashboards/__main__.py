"""Boards for Grafana: ``python -m dashboards build|lint|check|list|live|pictures``.

* ``build`` writes every board to charts/midstreamer/dashboards;
* ``lint`` holds every board to the rules of `dashboards.linting`;
* ``check`` does the same, and names files that differ from what would be built;
* ``list`` names the boards with the questions of their rows;
* ``live`` asks every query of a real Prometheus that scrapes a real fleet under load;
* ``pictures`` draws every board from what that run was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable

from dashboards import built, linting, reading

LIVE_S = 90.0


def build() -> int:
    """Write what is behind the code."""
    for path in built.write():
        print(f"{'wrote' if path.is_file() else 'removed'} {path.relative_to(built.ROOT)}")
    return 0


def lint() -> int:
    """Print complaints; 1 when there are any."""
    found = linting.complaints(board.read() for board in built.boards())
    for complaint in found:
        print(complaint)
    return 1 if found else 0


def check() -> int:
    """Print complaints and files that differ; 1 when there are any."""
    behind = built.behind()
    for path in behind:
        print(f"{path.relative_to(built.ROOT)} is behind the code: run make dashboards")
    return lint() or int(bool(behind))


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
    """Ask every query; 1 when one has no data."""
    from dashboards import live as running

    return asyncio.run(running.run(seconds))


def pictures() -> int:
    """Draw every board from the last run of ``live``; 1 when there was none."""
    from dashboards import pictures as drawing

    return drawing.main()


COMMANDS: dict[str, Callable[[], int]] = {
    "build": build,
    "lint": lint,
    "check": check,
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
    given = parser.parse_args()
    return live(given.seconds) if given.command == "live" else COMMANDS[given.command]()


if __name__ == "__main__":
    sys.exit(main())
