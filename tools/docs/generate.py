"""Write every generated page and picture: ``python -m tools.docs.generate [--check]``.

With ``--check`` nothing is written.  Files that would change are named, and the exit status is 1 if
there are any.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.docs import (
    alerts,
    boards,
    chart_files,
    crds,
    docstrings_of_code,
    reference_pages,
    values_page,
)
from tools.docs.pictures import cluster, fleet, kernels, machines

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"


def generated() -> dict[Path, str]:
    """Return the path and the text of every generated file."""
    pages = {
        DOCS / "reference/configuration.md": reference_pages.configuration(),
        DOCS / "reference/configuration.schema.json": reference_pages.schema(),
        DOCS / "reference/errors.md": reference_pages.error_codes(),
        DOCS / "reference/metrics.md": reference_pages.metric_names(),
        DOCS / "reference/boards.md": boards.page(reference_pages.NOTE),
        DOCS / "runbooks/index.md": alerts.page(reference_pages.NOTE),
        DOCS / "reference/frames.md": reference_pages.frame_types(),
        DOCS / "reference/command-line.md": reference_pages.command_line(),
        DOCS / "reference/report.md": reference_pages.report(),
        DOCS / "reference/chart-values.md": values_page.page(reference_pages.NOTE),
        TOP / "config.toml": reference_pages.example(),
        TOP / "charts/midstreamer-cluster/templates/agentpools.yaml": crds.agent_pools(),
        DOCS / "pictures/fleet.svg": fleet.draw(),
        DOCS / "pictures/cluster-pods.svg": cluster.pods(),
        DOCS / "pictures/cluster-identity.svg": cluster.identity(),
        DOCS / "pictures/kernels-path.svg": kernels.path(),
        DOCS / "pictures/kernels-matches.svg": kernels.matches(),
        DOCS / "pictures/kernels-monitor.svg": kernels.monitor(),
        DOCS / "pictures/kernels-exclusion.svg": kernels.exclusion(),
    }
    parts = []
    for name, (told, module, table) in docstrings_of_code.machines().items():
        pages[DOCS / f"pictures/{name}.svg"] = machines.draw(told, getattr(module, table))
        parts.append(
            f"## {name.replace('-', ', ')}\n\n{told}\nThe table is `{module.__name__}.{table}`."
            f"\n\n![{told}](../pictures/{name}.svg)\n"
        )
    intro = (
        "Each state machine is a literal table in the code; a test walks through the whole table.\n"
        "Columns are states. An arrow is labelled with the events that cause the transition.\n"
        "A transition that is not drawn is refused."
    )
    pages[DOCS / "reference/state-machines.md"] = "\n".join(
        [reference_pages.NOTE, "# State machines\n", f"{intro}\n", *parts]
    )
    pages |= chart_files.generated()
    return pages


def stale() -> dict[Path, str]:
    """Return the path and the new text of generated files that are missing or out of date."""
    return {
        path: text
        for path, text in generated().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Write files that are out of date, or with --check only name them; return the exit status."""
    behind = stale()
    if "--check" in sys.argv[1:]:
        for path in behind:
            print(f"{path.relative_to(TOP)} is out of date: run make docs")
        return 1 if behind else 0
    for path, text in behind.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(TOP)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
