"""What the charts render: as text, as objects, and the recorded renders of their example values.

``python -m tests.cluster.renders`` records anew; what changed is then seen in the difference.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from docs.charts import ALL, FLEET
from tests.cluster import host, mark

RECORDED = Path(__file__).parent / "recorded"
RELEASE, NAMESPACE = "mid", "fleet"


def render(
    values: Mapping[str, Any] | Path | None = None,
    *,
    chart: Path = FLEET,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> str:
    """What a chart makes of values, or of a file of them; KitError with Helm's complaint."""
    given, stdin = (
        (str(values), "") if isinstance(values, Path) else ("-", json.dumps(values or {}))
    )
    words = ["template", release, str(chart), "--namespace", namespace, "--include-crds"]
    return host.run([mark.helm(), *words, "--values", given], stdin=stdin)


def refusal(values: Mapping[str, Any], *, has: Sequence[str] = ()) -> str:
    """Helm's complaint about values of the fleet's chart; empty when it takes them.

    ``has`` are versions of the API, or kinds with theirs, that the cluster has.
    """
    words = [str(mark.helm()), "template", RELEASE, str(FLEET), "--namespace", NAMESPACE]
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
    """The objects of a render."""
    return [each for each in yaml.safe_load_all(text) if each]


def examples() -> dict[Path, Path]:
    """Each file of example values, with the file of its recorded render."""
    return {
        file: RECORDED / f"{chart.name}-{file.stem}.yaml"
        for chart in ALL
        for file in sorted((chart / "ci").glob("*.yaml"))
    }


def of_example(file: Path) -> str:
    """The render of a file of example values."""
    return render(file, chart=file.parents[1])


def main() -> None:
    """Record the render of every example."""
    RECORDED.mkdir(exist_ok=True)
    for file, recorded in examples().items():
        recorded.write_text(of_example(file), encoding="utf-8")
        host.say(f"wrote {recorded}")


if __name__ == "__main__":
    main()
