"""What the allowlist permits a client: universes to append to, and whether it may drain members.

`security.allowlist` reads grants from the allowlist. The carrier attaches the grant to the identity
that it authenticated, and the coordinator checks each Append and each Retire against it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grant:
    """The universes that a client may append to, and whether the client may drain members."""

    universes: frozenset[str] = frozenset()
    """Names of the universes that the client may append to."""
    every: bool = False
    """Whether the client may append to every universe."""
    drain: bool = False
    """Whether the client may ask members to drain."""

    def covers(self, universe: str) -> bool:
        """Return whether the client may append to this universe."""
        return self.every or universe in self.universes

    def __or__(self, other: Grant) -> Grant:
        """Return a grant that permits whatever one of the two grants permits."""
        return Grant(
            self.universes | other.universes, self.every or other.every, self.drain or other.drain
        )

    def __str__(self) -> str:
        """Return the universes, for use in a message."""
        return "every universe" if self.every else ", ".join(sorted(self.universes)) or "none"


NOTHING = Grant()
"""Grant that permits nothing."""
EVERYTHING = Grant(every=True)
"""Grant to append to every universe.

Draining members is not included, because it must be granted explicitly.
"""
