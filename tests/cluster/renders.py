"""Render the charts with Helm: as text, as objects, and as recorded renders of example values.

``python -m tests.cluster.renders`` records the renders again; `git diff` then shows what changed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.cluster import cluster_guard, commands_here
from tools.docs.chart_files import ALL, FLEET

RECORDED = Path(__file__).parent / "recorded"
RELEASE, NAMESPACE = "mid", "fleet"


def render(
    values: Mapping[str, Any] | Path | None = None,
    *,
    chart: Path = FLEET,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> str:
    """Return the manifest that a chart renders from values, or from a file of values.

    Raises KitError with Helm's error output.
    """
    given, stdin = (
        (str(values), "") if isinstance(values, Path) else ("-", json.dumps(values or {}))
    )
    words = ["template", release, str(chart), "--namespace", namespace, "--include-crds"]
    return commands_here.run([cluster_guard.helm(), *words, "--values", given], stdin=stdin)


def refusal(values: Mapping[str, Any], *, has: Sequence[str] = ()) -> str:
    """Return Helm's error output for values of the fleet's chart; empty when Helm accepts them.

    ``has`` lists API versions, or kinds with their versions, that Helm takes as present in the
    cluster.
    """
    words = [str(cluster_guard.helm()), "template", RELEASE, str(FLEET), "--namespace", NAMESPACE]
    words += [f"--api-versions={each}" for each in has]
    done = subprocess.run(
        [*words, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a rendered manifest."""
    return [each for each in yaml.safe_load_all(text) if each]


def examples() -> dict[Path, Path]:
    """Return the files of example values, each with the path of its recorded render."""
    return {
        file: RECORDED / f"{chart.name}-{file.stem}.yaml"
        for chart in ALL
        for file in sorted((chart / "ci").glob("*.yaml"))
    }


def of_example(file: Path) -> str:
    """Return the manifest that a chart renders from one of its files of example values."""
    return render(file, chart=file.parents[1])


def main() -> None:
    """Render every file of example values and write the result to its recorded file."""
    RECORDED.mkdir(exist_ok=True)
    for file, recorded in examples().items():
        recorded.write_text(of_example(file), encoding="utf-8")
        commands_here.say(f"wrote {recorded}")


if __name__ == "__main__":
    main()
