"""The handbook's table of RBAC rights lists the rights that cluster tests remove one by one."""

from __future__ import annotations

from tests.cluster import removed_rights
from tools.docs import measured_figures


def test_the_handbook_has_the_table_of_what_fails_without_each_right() -> None:
    text = removed_rights.PAGE.read_text(encoding="utf-8")

    assert removed_rights.table() in text
    assert measured_figures.replaced(text, "rights", removed_rights.table()) == text, (
        "python -m tests.cluster.removed_rights writes the table again"
    )


def test_every_row_names_a_way_and_every_way_has_a_row() -> None:
    assert {row.way for row in removed_rights.ROWS.values()} == set(removed_rights.WAYS)
