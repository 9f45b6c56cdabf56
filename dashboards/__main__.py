"""Boards for Grafana: ``python -m dashboards build|lint|check|list``.

* ``build`` writes every board to charts/midstreamer/dashboards;
* ``lint`` holds every board to the rules of `dashboards.linting`;
* ``check`` does the same, and names files that differ from what would be built;
* ``list`` names the boards with the questions of their rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from dashboards import built, linting, reading


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


COMMANDS: dict[str, Callable[[], int]] = {
    "build": build,
    "lint": lint,
    "check": check,
    "list": show,
}


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Boards for Grafana.")
    parser.add_argument("command", choices=COMMANDS)
    return COMMANDS[parser.parse_args().command]()


if __name__ == "__main__":
    sys.exit(main())
