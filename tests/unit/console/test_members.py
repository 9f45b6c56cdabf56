"""The tables of a fleet's members fit 100 columns, use colours, and show missing facts as "-"."""

from __future__ import annotations

import io
import json
import re

from rich.console import Console, RenderableType

from midstreamer.console import members
from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.frames import Member, SeriesSummary, Surveyed
from midstreamer.runtime import lease_evidence
from midstreamer.runtime.lease_evidence import Facts
from midstreamer.transport.carrier import TrustReport

NOW_S = 1_800_000_000.0
DAY_S = 86_400.0


def a_member(name: str, *, position: int = 100, held: int = 0, **facts: object) -> Member:
    trust = TrustReport("7f", NOW_S + 27.4 * DAY_S, "b0b0" * 4, ("a0a0" * 4,))
    carried = lease_evidence.told(Facts(**({"stage": "serving", "trust": trust} | facts)))  # type: ignore[arg-type]
    return Member(name, "i", "127.0.0.1:7400", position, held, carried)


FLEET = Surveyed(
    position=1_250,
    members=(
        a_member("agent/a1", held=12, stage="draining", shards_left=4, requests=3, busy=0.42),
        a_member("coordinator/c1", missing=["4 shards are held by no connected agent"]),
        Member("agent/old", "i", "", 1_250, 7, {"engine": "numba"}),
        a_member("sync/s1", position=1_250),
    ),
    series=(SeriesSummary("u/a", 2, 1, 2, 0.5),),
)


def drawn(what: RenderableType, *, columns: int = 100, colours: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=columns, color_system="standard" if colours else None,
            force_terminal=colours).print(what)  # fmt: skip
    return out.getvalue()


def rows_of(text: str, name: str) -> list[list[str]]:
    return [
        re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.startswith(name)
    ]


def test_each_member_is_shown_with_what_it_does_and_what_it_is() -> None:
    shown = drawn(members.tables(FLEET, NOW_S), columns=140)
    doing, being, remark = rows_of(shown, "agent/a1")
    assert doing == ["agent/a1", "draining", "1,150", "12", "4", "3", "0.0 s", "42%"]
    assert being == [
        "agent/a1", "127.0.0.1:7400", "0.1.0", "27 days", "b0b0b0b0", "a0a0a0a0", "everything",
    ]  # fmt: skip
    assert remark == ["agent/a1 drains: draining, 4 shards left, 3 requests in progress"]


def test_the_tables_fit_into_a_hundred_columns() -> None:
    shown = drawn(members.tables(FLEET, NOW_S))
    assert max(map(len, shown.splitlines())) <= 100
    for heading in ("behind", "requests", "oldest", "busy", "certificate", "judged by"):
        assert heading in shown
    assert rows_of(shown, "sync/s1")[0][:3] == ["sync/s1", "serving", "0"]


def test_a_member_of_the_version_before_is_shown_as_older() -> None:
    shown = drawn(members.tables(FLEET, NOW_S))
    doing, being = rows_of(shown, "agent/old")
    assert doing == ["agent/old", "-", "0", "7", "-", "-", "-", "-"]
    assert being == ["agent/old", "-", "older", "-", "-", "-", "-"]
    assert "2 versions among the members: 0.1.0 (3), older (1)" in shown


def test_what_drains_and_what_lacks_something_stands_out() -> None:
    lines = drawn(members.doing_table(FLEET), colours=True, columns=140).splitlines()
    assert "\x1b[33m" in next(line for line in lines if "agent/a1" in line)
    assert "\x1b[31m" in next(line for line in lines if "coordinator/c1" in line)
    assert "\x1b[3" not in next(line for line in lines if "sync/s1" in line)
    assert (
        "coordinator/c1 is not complete: 4 shards are held by no connected agent"
        in members.remarks(FLEET.members)
    )


def test_trusted_bundles_that_differ_are_named() -> None:
    other = TrustReport("1", NOW_S, "c1c1" * 4, ())
    remarks = members.remarks([a_member("agent/a1"), a_member("agent/a2", trust=other)])
    (line,) = remarks
    assert line == (
        "2 trusted bundles among the members: b0b0b0b0b0b0b0b0 (1), c1c1c1c1c1c1c1c1 (1)"
    )


def test_what_another_process_wrote_may_be_anything() -> None:
    odd = {"busy": "much", "not_after": "never", "requests": "x" * 4000, "capabilities": "a b"}
    surveyed = Surveyed(members=(Member("agent/a1", "i", "", evidence=odd),))
    shown = drawn(members.tables(surveyed, NOW_S))
    assert "much" in shown
    assert "x" * 300 not in shown.replace("\n", "")


def test_json_has_everything() -> None:
    shown = json.loads(members.as_json(FLEET))
    (agent,) = [member for member in shown["members"] if member["name"] == "agent/a1"]
    assert agent["evidence"] == FLEET.members[0].evidence
    assert (agent["behind"], agent["held"], shown["position"]) == (1_150, 12, 1_250)
    assert agent["evidence"]["capabilities"].split() == list(OURS)
    assert shown["series"][0]["series"] == "u/a"
