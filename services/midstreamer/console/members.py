"""The members of a fleet as people read them: what each does, and what each is.

Pure: what a coordinator tells of the leases goes in, tables and texts come out.  A member of the
version before tells next to nothing; a dash stands for what it does not tell.
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
from midstreamer.runtime.evidence import where

DAY_S = 86_400.0
EXPIRY_DAYS = 3
"""A certificate that ends sooner stands out."""
UNTOLD = "-"
OLDER = "older"
"""The version of a member that does not tell it: it did not know how."""
COMPLETE = "yes"
HASH_SHOWN = 8
CUT = "..."
CELL_CHARACTERS_MAX = 16
LINE_CHARACTERS_MAX = 200
"""A member may say more in its lease than fits on a screen."""


def tables(there: Surveyed, now_s: float) -> RenderableType:
    """Everything that is shown of the members, within 100 columns."""
    return Group(
        doing_table(there), Text(), being_table(there, now_s), *map(Text, remarks(there.members))
    )


def doing_table(there: Surveyed) -> Table:
    """What each member does, and what it lacks."""
    table = _table(
        "member", "stage", "behind", "held", "left", "requests", "oldest", "busy", "lacks"
    )
    for member in there.members:
        told = member.evidence
        table.add_row(
            member.name,
            _cell(told, "stage"),
            f"{max(0, there.position - member.position):,}",
            f"{member.held:,}",
            _cell(told, "shards_left") if member.draining else UNTOLD,
            _cell(told, "requests"),
            _with_unit(_cell(told, "oldest_waiting_s"), " s"),
            _share(_cell(told, "busy")),
            lacking(member),
            style=_style(member),
        )
    return table


def being_table(there: Surveyed, now_s: float) -> Table:
    """What each member runs, shows and trusts."""
    table = _table(
        "member", "address", "version", "certificate", "bundle", "judged by", "understands"
    )
    for member in there.members:
        told = member.evidence
        table.add_row(
            member.name,
            where(member) or UNTOLD,
            version(member),
            days_left(member, now_s),
            _cell(told, "bundle")[:HASH_SHOWN],
            " ".join(word[:HASH_SHOWN] for word in _line(told, "judged_by").split()) or UNTOLD,
            _understood(told),
            style="red" if _expires_soon(member, now_s) else "",
        )
    return table


def remarks(members: Sequence[Member]) -> list[str]:
    """What an operator should see first: members that drain or lack something, and differences."""
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
    """How far a member that drains has come, in a few words."""
    told = member.evidence
    stage = _cell(told, "stage")
    parts = ["asked, and not yet draining" if stage != "draining" else stage]
    if "shards_left" in told:
        parts.append(f"{_cell(told, 'shards_left')} shards left")
    if "requests" in told:
        parts.append(f"{_cell(told, 'requests')} requests under way")
    return ", ".join(parts)


def version(member: Member) -> str:
    """The version that a member runs."""
    return _cell(member.evidence, "version", OLDER)


def lacking(member: Member) -> str:
    """What a member lacks to do its whole part; empty when nothing is known to be missing."""
    told = _line(member.evidence, "complete", COMPLETE)
    return "" if told == COMPLETE else told


def days_left(member: Member, now_s: float) -> str:
    """How long the certificate of a member is still good."""
    left_s = _left_s(member, now_s)
    if left_s is None:
        return UNTOLD
    return f"{left_s / DAY_S:,.0f} days" if left_s >= DAY_S else f"{left_s / 3600:,.1f} hours"


def as_json(there: Surveyed) -> bytes:
    """Everything that was told, for other programs."""
    members = [
        {**msgspec.to_builtins(member), "behind": max(0, there.position - member.position)}
        for member in there.members
    ]
    told: dict[str, Any] = {
        "position": there.position,
        "ticks": there.ticks,
        "decisions": there.decisions,
        "verdicts": there.verdicts,
        "shard_points": there.shard_points,
        "members": members,
        "series": [msgspec.to_builtins(each) for each in there.series],
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2)


# --- small pieces --------------------------------------------------------------------------------


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        wide = heading in ("lacks", "judged by", "understands", "member", "address")
        table.add_column(heading, overflow="fold", no_wrap=not wide)
    return table


def _cell(told: Mapping[str, str], key: str, otherwise: str = UNTOLD) -> str:
    """What a member tells under a key. Another process wrote it: it may be long, or no number."""
    return _shortened(told.get(key) or otherwise, CELL_CHARACTERS_MAX)


def _line(told: Mapping[str, str], key: str, otherwise: str = UNTOLD) -> str:
    """The same, for what may be as long as a line."""
    return _shortened(told.get(key) or otherwise, LINE_CHARACTERS_MAX)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


def _with_unit(text: str, unit: str) -> str:
    return text if text == UNTOLD else f"{text}{unit}"


def _share(text: str) -> str:
    try:
        return f"{float(text):.0%}"
    except ValueError:
        return text


def _left_s(member: Member, now_s: float) -> float | None:
    try:
        return float(member.evidence["not_after"]) - now_s
    except (KeyError, ValueError):
        return None


def _expires_soon(member: Member, now_s: float) -> bool:
    left_s = _left_s(member, now_s)
    return left_s is not None and left_s < EXPIRY_DAYS * DAY_S


def _understood(told: Mapping[str, str]) -> str:
    words = _line(told, "capabilities", "").split()
    return "everything" if set(words) == set(OURS) else " ".join(words) or UNTOLD


def _style(member: Member) -> str:
    if member.draining:
        return "yellow"
    return "red" if lacking(member) else ""


def _differing(what: str, values: Sequence[str]) -> list[str]:
    counts = Counter(values)
    if len(counts) < 2:
        return []
    listed = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
    return [f"{len(counts)} {what} among the members: {listed}"]
