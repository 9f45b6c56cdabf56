"""Check the built rules and run the test cases of alerts with promtool."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from dashboards import alert_cases, rules
from dashboards.rules import Alert

LONGEST_S = 300.0
"""Timeout of one run of promtool in seconds."""


def checked(program: Path) -> str:
    """Return promtool's output if it rejects the built rules, else an empty string."""
    with tempfile.TemporaryDirectory(prefix="midstreamer-rules-") as folder:
        paths = [Path(folder) / name for name in rules.render()]
        for path, text in zip(paths, rules.render().values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return _told(program, "check", "rules", "--lint=all", "--lint-fatal", *map(str, paths))


def tested(program: Path, alerts: Iterable[Alert]) -> str:
    """Return promtool's output if a test case of these alerts fails, else an empty string."""
    with tempfile.TemporaryDirectory(prefix="midstreamer-cases-") as folder:
        files = []
        for alert in alerts:
            (Path(folder) / f"{alert.name}.yaml").write_text(alert_cases.rules_of(alert), "utf-8")
            file = Path(folder) / f"{alert.name}.test.yaml"
            file.write_text(yaml.safe_dump(alert_cases.promtool(alert), sort_keys=False), "utf-8")
            files.append(str(file))
        return _told(program, "test", "rules", *files)


def _told(program: Path, *words: str) -> str:
    done = subprocess.run(  # noqa: S603 - a program of ours
        [program, *words], capture_output=True, text=True, check=False, timeout=LONGEST_S
    )
    return f"{done.stdout}\n{done.stderr}" if done.returncode else ""
