"""The members of a fleet as tables for people: their state, and what they run.

These are pure functions: a coordinator's list of leases goes in, tables and texts come out. A
member of an older version reports little; a dash stands for everything it does not report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.frames import Member, Surveyed
from midstreamer.runtime.lease_evidence import where

DAY_S = 86_400.0
"""Seconds in a day."""
EXPIRY_DAYS = 3
"""A certificate with fewer days left is shown in red."""
UNTOLD = "-"
"""Shown for a value that a member does not report."""
OLDER = "older"
"""Shown as the version of a member too old to report it."""
COMPLETE = "yes"
"""Value of ``complete`` in the evidence of a member that lacks nothing."""
HASH_SHOWN = 8
"""Number of characters of a hash that the tables show."""
CUT = "..."
"""Ending of a text that was shortened."""
CELL_CHARACTERS_MAX = 16
"""Maximum characters of a text in a narrow column. A longer text from a member is cut."""
LINE_CHARACTERS_MAX = 200
"""Maximum characters of a text in a wide column. A longer text from a member is cut."""


def tables(surveyed: Surveyed, now_s: float) -> RenderableType:
    """Return the tables and remarks on all members, at most 100 columns wide."""
    return Group(
        doing_table(surveyed),
        Text(),
        being_table(surveyed, now_s),
        *map(Text, remarks(surveyed.members)),
    )


def doing_table(surveyed: Surveyed) -> Table:
    """Return a table that shows what each member does, and what it lacks."""
    table = _table(
        "member", "stage", "behind", "held", "left", "requests", "oldest", "busy", "lacks"
    )
    for member in surveyed.members:
        evidence = member.evidence
        table.add_row(
            member.name,
            _cell(evidence, "stage"),
            f"{max(0, surveyed.position - member.position):,}",
            f"{member.held:,}",
            _cell(evidence, "shards_left") if member.draining else UNTOLD,
            _cell(evidence, "requests"),
            _with_unit(_cell(evidence, "oldest_waiting_s"), " s"),
            _share(_cell(evidence, "busy")),
            lacking(member),
            style=_style(member),
        )
    return table


def being_table(surveyed: Surveyed, now_s: float) -> Table:
    """Return the table of each member's version, certificate and trusted authorities."""
    table = _table(
        "member", "address", "version", "certificate", "bundle", "judged by", "understands"
    )
    for member in surveyed.members:
        evidence = member.evidence
        table.add_row(
            member.name,
            where(member) or UNTOLD,
            version(member),
            days_left(member, now_s),
            _cell(evidence, "bundle")[:HASH_SHOWN],
            " ".join(word[:HASH_SHOWN] for word in _line(evidence, "judged_by").split()) or UNTOLD,
            _understood(evidence),
            style="red" if _expires_soon(member, now_s) else "",
        )
    return table


def remarks(members: Sequence[Member]) -> list[str]:
    """Return a line for each member that drains or lacks something.  Further lines say in which
    versions or trusted bundles the members differ."""
    lines = [
        f"{member.name} drains: {progress(member)}" if member.draining
        else f"{member.name} is not complete: {lacking(member)}"
        for member in members
        if member.draining or lacking(member)
    ]  # fmt: skip
    versions = [version(member) for member in members]
    bundles = [member.evidence["bundle"] for member in members if "bundle" in member.evidence]
    return [*lines, *_differing("versions", versions), *_differing("trusted bundles", bundles)]


def progress(member: Member) -> str:
    """Return how far the drain of a member is: its stage, and the shards and requests left."""
    evidence = member.evidence
    stage = _cell(evidence, "stage")
    parts = ["asked to drain, not draining yet" if stage != "draining" else stage]
    if "shards_left" in evidence:
        parts.append(f"{_cell(evidence, 'shards_left')} shards left")
    if "requests" in evidence:
        parts.append(f"{_cell(evidence, 'requests')} requests in progress")
    return ", ".join(parts)


def version(member: Member) -> str:
    """Return the version of a member, or OLDER."""
    return _cell(member.evidence, "version", OLDER)


def lacking(member: Member) -> str:
    """Return what a member reports to be missing; empty when nothing is known to be missing."""
    complete = _line(member.evidence, "complete", COMPLETE)
    return "" if complete == COMPLETE else complete


def days_left(member: Member, now_s: float) -> str:
    """Return the remaining validity of a member's certificate, in days or hours."""
    left_s = _left_s(member, now_s)
    if left_s is None:
        return UNTOLD
    return f"{left_s / DAY_S:,.0f} days" if left_s >= DAY_S else f"{left_s / 3600:,.1f} hours"


def as_json(surveyed: Surveyed) -> bytes:
    """Return everything that the coordinator reported, as JSON."""
    members = [
        {**msgspec.to_builtins(member), "behind": max(0, surveyed.position - member.position)}
        for member in surveyed.members
    ]
    survey: dict[str, Any] = {
        "position": surveyed.position,
        "ticks": surveyed.ticks,
        "decisions": surveyed.decisions,
        "verdicts": surveyed.verdicts,
        "shard_points": surveyed.shard_points,
        "members": members,
        "series": [msgspec.to_builtins(each) for each in surveyed.series],
    }
    return msgspec.json.format(msgspec.json.encode(survey), indent=2)


# --- The functions below make an empty table, and the text and the colour of its cells. -----------


def _table(*headings: str) -> Table:
    """Return an empty table with these headings."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        wide = heading in ("lacks", "judged by", "understands", "member", "address")
        table.add_column(heading, overflow="fold", no_wrap=not wide)
    return table


def _cell(evidence: Mapping[str, str], key: str, otherwise: str = UNTOLD) -> str:
    """Return the value of a key in a member's evidence, cut to CELL_CHARACTERS_MAX characters.

    Another process wrote the value, so it may be too long, or a text instead of a number.
    """
    return _shortened(evidence.get(key) or otherwise, CELL_CHARACTERS_MAX)


def _line(evidence: Mapping[str, str], key: str, otherwise: str = UNTOLD) -> str:
    """Return the value of a key in a member's evidence, cut to LINE_CHARACTERS_MAX characters."""
    return _shortened(evidence.get(key) or otherwise, LINE_CHARACTERS_MAX)


def _shortened(text: str, most: int) -> str:
    """Return the text, cut to ``most`` characters."""
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


def _with_unit(text: str, unit: str) -> str:
    """Return the text with a unit; a dash stays a dash."""
    return text if text == UNTOLD else f"{text}{unit}"


def _share(text: str) -> str:
    """Return a number as a percentage; any other text unchanged."""
    try:
        return f"{float(text):.0%}"
    except ValueError:
        return text


def _left_s(member: Member, now_s: float) -> float | None:
    """Return the seconds until a member's certificate expires; None when not reported."""
    try:
        return float(member.evidence["not_after"]) - now_s
    except (KeyError, ValueError):
        return None


def _expires_soon(member: Member, now_s: float) -> bool:
    """Return whether a member's certificate expires within EXPIRY_DAYS."""
    left_s = _left_s(member, now_s)
    return left_s is not None and left_s < EXPIRY_DAYS * DAY_S


def _understood(evidence: Mapping[str, str]) -> str:
    """Return the capabilities of a member; ``everything`` when they equal those of this version."""
    words = _line(evidence, "capabilities", "").split()
    return "everything" if set(words) == set(OURS) else " ".join(words) or UNTOLD


def _style(member: Member) -> str:
    """Return the colour of a member's row: yellow when it drains, red when it lacks something."""
    if member.draining:
        return "yellow"
    return "red" if lacking(member) else ""


def _differing(what: str, values: Sequence[str]) -> list[str]:
    """Return one line if the values of the members differ; no line if all are equal.

    ``what`` names the property, such as "versions".  The line gives each value with the number of
    members that have it.
    """
    counts = Counter(values)
    if len(counts) < 2:
        return []
    listed = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
    return [f"{len(counts)} {what} among the members: {listed}"]
