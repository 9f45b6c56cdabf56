"""What `midstreamer drain` shows of a member until the member has left the fleet."""

from __future__ import annotations

import pytest

from midstreamer.cli import drain_progress
from midstreamer.cli.drain_progress import Watch
from midstreamer.domain.errors import (
    DeadlineExceeded,
    MidstreamerError,
    Overloaded,
    Unavailable,
    Unsupported,
)
from midstreamer.protocol.frames import Member, Surveyed


def a_member(name: str, *, incarnation: str = "i", **evidence: str) -> Member:
    return Member(name, incarnation, "", evidence=evidence)


SERVING = a_member("agent/a1", stage="serving", shards_left="4", requests="0")
DRAINING = a_member("agent/a1", stage="draining", shards_left="4", requests="2")
DONE = a_member("agent/a1", stage="draining", shards_left="0", requests="0")
OTHER = a_member("agent/a2", stage="serving")


def test_progress_is_reported_when_it_changes_until_the_member_has_left() -> None:
    watch = Watch("agent/a1", [SERVING, OTHER])
    lines = [watch.begun()]
    lines += [
        watch.seen(seen)
        for seen in ([SERVING, OTHER], [DRAINING, OTHER], [DRAINING], [DONE, OTHER], [OTHER])
    ]
    assert lines == [
        "agent/a1 is asked to drain",
        "agent/a1: asked to drain, not draining yet, 4 shards left, 0 requests in progress",
        "agent/a1: draining, 4 shards left, 2 requests in progress",
        "",
        "agent/a1: draining, 0 shards left, 0 requests in progress",
        "agent/a1 has left the fleet",
    ]
    assert watch.left


def test_a_member_that_was_started_anew_has_left() -> None:
    watch = Watch("agent/a1", [SERVING])
    watch.seen([a_member("agent/a1", incarnation="later", stage="starting")])
    assert watch.left
    assert watch.said == "agent/a1 has left the fleet, and has been started again"


def test_a_member_that_drains_already_is_not_asked_again() -> None:
    watch = Watch("agent/a1", [DRAINING])
    assert watch.draining
    assert watch.begun() == "agent/a1 is already draining"


def test_a_member_of_an_older_version_is_not_waited_for_in_vain() -> None:
    with pytest.raises(
        Unsupported, match=r"agent/a1 .* older version.*stop the member with SIGTERM"
    ):
        Watch("agent/a1", [SERVING]).check()
    Watch("agent/a1", [a_member("agent/a1", capabilities="drain retire")]).check()
    # No error for an unknown name: sync itself refuses the name and suggests the nearest one.
    Watch("agent/a9", [SERVING]).check()


@pytest.mark.parametrize(
    ("names", "error", "left"),
    [
        (["coordinator/c1"], Unavailable("closed"), True),
        (["coordinator/c1"], DeadlineExceeded("late"), True),
        (["coordinator/c1"], Overloaded("busy"), False),
        (["coordinator/c1", "coordinator/c2"], Unavailable("closed"), False),
    ],
)
def test_the_only_coordinator_has_left_when_nobody_answers(
    names: list[str], error: MidstreamerError, left: bool
) -> None:
    watch = Watch("coordinator/c1", [a_member(name) for name in names])
    assert bool(watch.unanswered(error)) is watch.left is left


def test_the_only_sync_counts_as_left_once_it_drains() -> None:
    watch = Watch("sync/s1", [a_member("sync/s1", stage="serving")])
    line = watch.seen([a_member("sync/s1", stage="draining")])
    assert watch.left
    assert line.endswith("no other sync can report when this one has left")


class Listing:
    """A fake client. Each call of `members` lists the same single member."""

    deadline_s = 30.0

    async def members(self) -> Surveyed:
        return Surveyed(members=(DRAINING,))


async def test_a_member_that_does_not_leave_in_time_is_an_error_that_says_how_far_it_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_progress, "LOOK_S", 0.001)
    watch, lines = Watch("agent/a1", [SERVING]), list[str]()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s; last report: .* 4 shards left"):
        await drain_progress.until_left(Listing(), watch, timeout_s=0.1, say=lines.append)  # type: ignore[arg-type]
    assert len(lines) == 1
