"""Each migration must keep the previous version working (docs/explanation/versions.md).

During an upgrade two versions use the same database, so the new schema must let the previous
version read and write as before. A migration may remove something only if the previous version
does not need it any more. A comment in the migration must give the reason.
"""

from __future__ import annotations

import re

import pytest

from midstreamer.store import migrate
from midstreamer.store.migrate import Migration

RULED_FROM = 4
"""Number of the first migration that must keep the policy. Earlier migrations belong to the first
version of the product, so there is no previous version that they could break."""
_COMPATIBLE = re.compile(r"^-- compatible: (\d{4})$", re.MULTILINE)
_ALONE = re.compile(r"^-- incompatible: \S.{20,}$", re.MULTILINE)
_CONTRACTS = re.compile(r"^-- contracts: \S.{20,}$", re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*")
TAKES_AWAY = {
    "drops something": r"\bDROP\s+(?!DEFAULT\b|NOT\s+NULL\b)",
    "renames something": r"\bRENAME\b",
    "changes a type": r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b",
    "forbids NULL": r"\bSET\s+NOT\s+NULL\b",
    "adds a column that old writers leave out": r"\bADD\b(?!\s+CONSTRAINT\b).*\bNOT\s+NULL\b",
    "adds a constraint": r"\bADD\s+(CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN)\b",
    "adds a unique index": r"\bCREATE\s+UNIQUE\s+INDEX\b",
    "deletes rows": r"\b(DELETE\s+FROM|TRUNCATE)\b",
}
"""Schema changes that may break the previous version: what each does, and its SQL pattern."""


def faults(migration: Migration) -> list[str]:
    """Return the reasons why a migration breaks the policy; empty when it keeps the policy."""
    name, text = f"{migration.number:04d}_{migration.name}", migration.text
    marked = _COMPATIBLE.search(text)
    found = []
    if marked is None and not _ALONE.search(text):
        found.append(f"{name} says neither '-- compatible: NNNN' nor '-- incompatible: <why>'")
    if marked is not None and int(marked[1]) >= migration.number:
        found.append(f"{name} must name an older schema behind 'compatible': at most"
                     f" {migration.number - 1:04d}")  # fmt: skip
    if not _CONTRACTS.search(text):
        found += [
            f"{name} {what} that the previous version may need: do it a version later, with"
            " '-- contracts: <since when nobody needs it>'"
            for what in taken_away(text)
        ]
    return found


def taken_away(text: str) -> list[str]:
    """Return the keys of TAKES_AWAY whose pattern matches a statement of the migration."""
    statements = [_without_default(statement) for statement in _COMMENT.sub("", text).split(";")]
    return [
        what
        for what, pattern in TAKES_AWAY.items()
        if any(re.search(pattern, statement, re.IGNORECASE) for statement in statements)
    ]


def _without_default(statement: str) -> str:
    """Return the statement with NOT NULL removed from each column that has a default."""
    parts = statement.split(",")
    has_default = re.compile(r"\bADD\b.*\bDEFAULT\b", re.IGNORECASE | re.DOTALL)
    return ",".join(
        re.sub(r"NOT\s+NULL", "", part, flags=re.IGNORECASE) if has_default.search(part) else part
        for part in parts
    )


def test_every_migration_keeps_to_the_policy() -> None:
    ruled = [migration for migration in migrate.shipped() if migration.number >= RULED_FROM]
    assert [fault for migration in ruled for fault in faults(migration)] == []


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE series ADD COLUMN note text",
        "ALTER TABLE series ADD COLUMN note text NOT NULL DEFAULT ''",
        "ALTER TABLE head ADD COLUMN a bigint DEFAULT 0 NOT NULL, ADD COLUMN b text;",
        "CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL); CREATE INDEX i ON t (a)",
        "ALTER TABLE members ALTER COLUMN holdings DROP NOT NULL",
        "-- DROP TABLE points is for a later version\nCREATE TABLE notes (id integer)",
    ],
)
def test_what_only_adds_is_accepted(text: str) -> None:
    assert faults(Migration(9, "more", f"-- compatible: 0008\n{text}")) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ALTER TABLE members DROP COLUMN holdings", "drops something"),
        ("drop index series_in_order", "drops something"),
        ("ALTER TABLE series RENAME COLUMN name TO title", "renames something"),
        ("ALTER TABLE series ALTER COLUMN count TYPE numeric", "changes a type"),
        ("ALTER TABLE series ALTER count SET DATA TYPE numeric", "changes a type"),
        ("ALTER TABLE feed ALTER COLUMN body SET NOT NULL", "forbids NULL"),
        ("ALTER TABLE feed ADD COLUMN note text NOT NULL", "adds a column"),
        ("ALTER TABLE feed ADD COLUMN a int DEFAULT 1, ADD note text NOT NULL", "adds a column"),
        ("ALTER TABLE feed ADD CONSTRAINT c CHECK (position > 0)", "adds a constraint"),
        ("CREATE UNIQUE INDEX one ON feed (body)", "adds a unique index"),
        ("DELETE FROM writers", "deletes rows"),
    ],
)
def test_what_the_version_before_would_stumble_over_is_named(text: str, named: str) -> None:
    (fault,) = faults(Migration(9, "less", f"-- compatible: 0008\n{text}"))
    assert named in fault
    why = "-- contracts: nothing has read it since schema 0008"
    assert faults(Migration(9, "less", f"-- compatible: 0008\n{why}\n{text}")) == []


@pytest.mark.parametrize(
    "mark", ["", "-- compatible: 0009", "-- incompatible: no", "-- compatible"]
)
def test_a_migration_says_which_older_schema_it_is_compatible_with_or_why_with_none(
    mark: str,
) -> None:
    assert len(faults(Migration(9, "silent", f"{mark}\nCREATE TABLE notes (id integer)"))) == 1


def test_a_reason_in_words_is_accepted() -> None:
    why = "-- incompatible: an older sync would number changes of two feeds as one"
    assert faults(Migration(9, "alone", f"{why}\nCREATE TABLE notes (id integer)")) == []
