"""A cache of the learning states that recent requests needed, each in its newest version.

There may be far more streams than fit into memory, and one coordinator needs few of them.  So it
requests a state from sync when a Match first needs that state, updates the state from the change
feed, and evicts the least recently used states.  Feed changes of all other streams are ignored,
with one exception: while the state of a stream is being requested, its newest change is remembered,
because the response may be older.  The cache then gets that change or the response, whichever has
the higher version.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from midstreamer import reasoning
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.protocol.frames import Change, Learned

ENTRY_BYTES = 1024
"""Bytes counted for each cached stream in addition to its encoded state.  So a stream that has
learned nothing, whose state is empty, counts too: clients may name any number of such streams."""


@dataclass
class _Known:
    """The newest state of one stream.  ``data`` is the encoded state.  ``state`` is the decoded
    state, or None until a request first needs it."""

    version: int
    data: bytes
    state: State | None = None

    @property
    def size(self) -> int:
        """Bytes by which this entry counts towards the limit of the cache."""
        return ENTRY_BYTES + len(self.data)


@dataclass
class _Expected:
    """A pending request to sync for the state of one stream."""

    newest: Learned | None = None
    """The newest change of the stream that the feed has brought since the request was sent."""


class States:
    """A cache of learning states, bounded in bytes.  The most recently used state is never
    evicted, even when it alone exceeds the limit."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._expected: dict[str, _Expected] = {}
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that all cached states take together."""
        return self._bytes

    def clear(self) -> None:
        """Empty the cache after changes of the feed were missed, and ignore the responses to all
        pending requests, because they may be outdated."""
        self._known.clear()
        self._expected.clear()
        self._bytes = 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes to the cached states.  For a state that is being requested from sync,
        remember the newest change.  Ignore all other changes."""
        for change in changes:
            if not isinstance(change, Learned):
                continue
            known, expected = self._known.get(change.stream), self._expected.get(change.stream)
            if known is not None and change.version > known.version:
                self._keep(change)
            elif expected is not None:
                expected.newest = _newer(expected.newest, change)

    def expect(self, stream: str) -> _Expected:
        """Return the pending request for the state of a stream, and register it if it is new.  The
        caller passes it to `recalled` together with the response.  At the end the caller passes it
        to `unexpected`, whether or not there was a response."""
        return self._expected.setdefault(stream, _Expected())

    def recalled(self, expected: _Expected, answer: Learned) -> None:
        """Cache the response to a pending request.  If the feed has brought a newer version of the
        state since the request was sent, cache that version instead.  Ignore the response when
        `clear` was called since the request was sent."""
        if self._expected.get(answer.stream) is expected:
            del self._expected[answer.stream]
            self._keep(_newer(expected.newest, answer))

    def unexpected(self, stream: str, expected: _Expected) -> None:
        """Remove a pending request that failed.  Do nothing if `recalled` has removed it before."""
        if self._expected.get(stream) is expected:
            del self._expected[stream]

    def state(self, specification: Specification) -> State | None:
        """Return the newest state of a specification's stream; None when the cache does not have
        the state, so that it must be requested from sync."""
        known = self._known.get(specification.stream)
        if known is None:
            return None
        self._known.move_to_end(specification.stream)
        if known.version == 0:
            return reasoning.initial(specification)
        if known.state is None:
            known.state = reasoning.decode(known.data)
        return known.state

    def _keep(self, learned: Learned) -> None:
        known = self._known.get(learned.stream)
        if known is None:
            known = self._known[learned.stream] = _Known(learned.version, learned.state)
        else:
            # A change from the feed is not a use, so it does not move the state away from eviction.
            self._bytes -= known.size
            known.version, known.data, known.state = learned.version, learned.state, None
        self._bytes += known.size
        while self._bytes > self._bytes_max and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= oldest.size


def _newer(change: Learned | None, other: Learned) -> Learned:
    return change if change is not None and change.version > other.version else other
