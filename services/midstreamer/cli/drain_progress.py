"""Wait for a member that was asked to drain, and report its progress until it has left the fleet.

`Watch` decides from lists of members; `until_left` requests these lists at intervals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from midstreamer.client.api import AsyncClient
from midstreamer.console.members import progress
from midstreamer.domain.errors import (
    DeadlineExceeded,
    LinkClosed,
    MidstreamerError,
    Unavailable,
    Unsupported,
)
from midstreamer.domain.identity import Kind
from midstreamer.protocol.capabilities import Capability
from midstreamer.protocol.frames import Member

LOOK_S = 0.5
"""Seconds between two requests for the list of members."""
NOBODY_THERE = (Unavailable, LinkClosed, DeadlineExceeded)
"""Exact types of the errors that mean that no coordinator answered.

Overloaded is a subclass of Unavailable, but an overloaded coordinator did answer.
"""
ATTEMPT_S = 2.0
"""Maximum seconds for one request for the list of members.

It is short because the request may go to the very coordinator that drains.
"""


class Watch:
    """Observes a member from the request to drain until the member has left the fleet."""

    def __init__(self, name: str, members: Sequence[Member]) -> None:
        """Start with ``members``, the list from before the member was asked to drain."""
        self.name = name
        self.left = False
        """Whether the member has left the fleet."""
        self.said = ""
        """The last line reported about the member."""
        self._before = _named(name, members)
        kind = name.partition("/")[0]
        self._alone = [member.name for member in members if member.name.startswith(f"{kind}/")] == [
            name
        ]
        """Whether the member is the only one of its kind."""

    @property
    def draining(self) -> bool:
        """Whether the member was draining before it was asked."""
        return self._before is not None and self._before.draining

    def check(self) -> None:
        """Raise Unsupported for a member without the capability to drain on request.

        Such a member would never leave the fleet.

        An unknown name is accepted here; sync refuses it and suggests the nearest name.
        """
        if self._before is None:
            return
        if Capability.RETIRE not in self._before.evidence.get("capabilities", "").split():
            raise Unsupported(
                f"{self.name} does not report that it can be asked to drain: the member or its"
                " sync runs an older version; stop the member with SIGTERM"
            )

    def begun(self) -> str:
        """Return the line that reports the start of the drain."""
        return (
            f"{self.name} is already draining"
            if self.draining
            else f"{self.name} is asked to drain"
        )

    def seen(self, members: Sequence[Member]) -> str:
        """Return a line on what has changed in the list of members; empty when nothing has."""
        member = _named(self.name, members)
        self._before = self._before or member
        if member is None:
            self.left = True
            line = f"{self.name} has left the fleet"
        elif self._before is not None and member.incarnation != self._before.incarnation:
            self.left = True
            line = f"{self.name} has left the fleet, and has been started again"
        elif self._is_alone(Kind.SYNC) and member.draining:
            self.left = True
            line = f"{self.name} drains; no other sync can report when this one has left"
        else:
            line = f"{self.name}: {progress(member)}"
        news, self.said = ("" if line == self.said else line), line
        return news

    def unanswered(self, error: MidstreamerError) -> str:
        """Return a line if the failed request shows that the member has left, otherwise "".

        A failed request proves this only if the member was the only coordinator of the fleet.
        """
        if not self._is_alone(Kind.COORDINATOR) or type(error) not in NOBODY_THERE:
            return ""
        self.left = True
        return f"{self.name} was the only coordinator, and no longer answers"

    def _is_alone(self, kind: Kind) -> bool:
        """Return whether the member is of this kind and the only one of its kind."""
        return self._alone and self.name.startswith(f"{kind}/")


def _named(name: str, members: Sequence[Member]) -> Member | None:
    """Return the member with this name; None when it is not in the list."""
    return next((member for member in members if member.name == name), None)


async def until_left(
    client: AsyncClient, watch: Watch, *, timeout_s: float, say: Callable[[str], None]
) -> None:
    """Return when the member has left the fleet; DeadlineExceeded after ``timeout_s`` seconds."""
    client.deadline_s = min(client.deadline_s, ATTEMPT_S)
    try:
        async with asyncio.timeout(timeout_s):
            while not watch.left:
                await asyncio.sleep(LOOK_S)
                try:
                    line = watch.seen((await client.members()).members)
                except MidstreamerError as error:
                    line = watch.unanswered(error)
                if line:
                    say(line)
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"{watch.name} has not left the fleet within {timeout_s:g} s; last report:"
            f" {watch.said or 'none'}. It continues to drain: check with `midstreamer"
            " status`, or wait longer with --timeout"
        ) from error
