"""What an installation lets a client do: append to universes, and ask members to drain.

A grant comes from the allowlist (`security.allowlist`), a carrier hands it out for the identity
that it judged, and the coordinator holds each Append and each Retire against it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grant:
    """Universes by name, or every one, and whether members may be asked to drain."""

    universes: frozenset[str] = frozenset()
    every: bool = False
    drain: bool = False

    def covers(self, universe: str) -> bool:
        """Whether this universe may be appended to."""
        return self.every or universe in self.universes

    def __or__(self, other: Grant) -> Grant:
        """What either of two grants covers."""
        return Grant(
            self.universes | other.universes, self.every or other.every, self.drain or other.drain
        )

    def __str__(self) -> str:
        """Name the universes for a message."""
        return "every universe" if self.every else ", ".join(sorted(self.universes)) or "none"


NOTHING = Grant()
EVERYTHING = Grant(every=True)
"""Every universe. To ask members to drain has to be granted by name."""
