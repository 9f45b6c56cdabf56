"""Waiting for a member that was asked to drain: what is seen of it, and when it has left.

`Watch` decides, from the members that were listed; `until_left` asks for the list again and again.
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
NOBODY_THERE = (Unavailable, LinkClosed, DeadlineExceeded)
"""Errors of a look that nobody answered; Overloaded is not among them."""
ATTEMPT_S = 2.0
"""Longest that one look may take: a member that drains may be the one that is asked."""


class Watch:
    """One member, from the request on."""

    def __init__(self, name: str, members: Sequence[Member]) -> None:
        """``members``: those that were listed before it was asked."""
        self.name = name
        self.left = False
        self.said = ""
        """The last line about it."""
        self._before = _named(name, members)
        kind = name.partition("/")[0]
        self._alone = [one.name for one in members if one.name.startswith(f"{kind}/")] == [name]
        """No other of its kind is listed."""

    @property
    def draining(self) -> bool:
        """Whether it drained already before it was asked."""
        return self._before is not None and self._before.draining

    def check(self) -> None:
        """Raise Unsupported for a member that would not hear of it: it would be waited for in vain.

        A name that nobody has is left to sync, which knows the nearest.
        """
        if self._before is None:
            return
        if Capability.RETIRE not in self._before.evidence.get("capabilities", "").split():
            raise Unsupported(
                f"{self.name} does not say that it can be asked to drain: it runs an older version,"
                " or its sync does; stop it with SIGTERM"
            )

    def begun(self) -> str:
        """The first line."""
        return f"{self.name} drains already" if self.draining else f"{self.name} is asked to drain"

    def seen(self, members: Sequence[Member]) -> str:
        """A line about what is new; empty for nothing."""
        member = _named(self.name, members)
        self._before = self._before or member
        if member is None:
            self.left = True
            line = f"{self.name} has left the fleet"
        elif self._before is not None and member.incarnation != self._before.incarnation:
            self.left = True
            line = f"{self.name} has left the fleet, and was started anew"
        elif self._is_alone(Kind.SYNC) and member.draining:
            self.left = True
            line = f"{self.name} drains; it is the only sync: nobody can tell when it has left"
        else:
            line = f"{self.name}: {progress(member)}"
        news, self.said = ("" if line == self.said else line), line
        return news

    def unanswered(self, error: MidstreamerError) -> str:
        """A line about a list that did not come; empty when the next may come."""
        if not self._is_alone(Kind.COORDINATOR) or type(error) not in NOBODY_THERE:
            return ""
        self.left = True
        return f"{self.name} was the only coordinator, and answers no longer"

    def _is_alone(self, kind: Kind) -> bool:
        return self._alone and self.name.startswith(f"{kind}/")


def _named(name: str, members: Sequence[Member]) -> Member | None:
    return next((member for member in members if member.name == name), None)


async def until_left(
    client: AsyncClient, watch: Watch, *, timeout_s: float, say: Callable[[str], None]
) -> None:
    """Return when the member has left; DeadlineExceeded when that takes too long."""
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
            f"{watch.name} has not left within {timeout_s:g} s; last seen:"
            f" {watch.said or 'nothing'}. It goes on draining: look again with `midstreamer"
            " status`, or wait longer with --timeout"
        ) from error
