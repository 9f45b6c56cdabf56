"""The handbook's table of RBAC rights equals the list of rights that cluster tests remove."""

from __future__ import annotations

from tests.cluster import missed
from tools.docs import measured_figures


def test_the_handbook_has_the_table_of_what_fails_without_each_right() -> None:
    text = missed.PAGE.read_text(encoding="utf-8")

    assert missed.table() in text
    assert measured_figures.replaced(text, "rights", missed.table()) == text, (
        "python -m tests.cluster.missed writes the table again"
    )


def test_every_row_names_a_way_and_every_way_has_a_row() -> None:
    assert {row.way for row in missed.ROWS.values()} == set(missed.WAYS)
