"""The page on troubleshooting in a cluster lists exactly the symptoms that tests produce."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import release_faults

PAGE = Path(__file__).parents[2] / "docs/how-to/troubleshooting-cluster.md"


def test_every_symptom_that_is_tried_is_in_the_table_and_the_reverse() -> None:
    text = PAGE.read_text(encoding="utf-8")
    _, _, table = text.partition("## By symptom")
    table, _, _ = table.partition("\n## ")
    rows = [line for line in table.splitlines() if line.startswith("| `")]

    listed = [row.split("`")[1] for row in rows]

    assert listed == [each.symptom for each in release_faults.WRONGS]
