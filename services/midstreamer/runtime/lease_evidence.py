"""The evidence of a lease: what a process reports about itself, shown by `midstreamer status`.

`told` is pure: it returns the evidence as texts, made from plain numbers.  `Reporter` gathers the
numbers of one service.  Requests are counted as they come; everything else is read only when the
lease is renewed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from midstreamer import __version__
from midstreamer.protocol import capabilities
from midstreamer.protocol.frames import EVIDENCE_BYTES_MAX, Answer, Frame, Member, Request, Tail
from midstreamer.runtime.link_requests import Handle, Peer
from midstreamer.transport.carrier import Carrier, TrustReport

COMPLETE = "yes"
NO_CERTIFICATE = TrustReport()
MISSING_BYTES_MAX = 400
"""Maximum bytes of the text in a lease that lists what a process lacks. The limit leaves room for
the other fields of the lease."""
CUT = "..."
"""End of a text that was cut, because it was too long."""
BUSY_S = 10.0
"""Length in seconds of the recent time over which the busy share is measured."""
SAMPLE_LEAST_S = 1.0
"""A sample of the clocks is kept only if this many seconds have passed since the last kept sample.
So at most 11 samples are kept: ten from the last `BUSY_S` seconds, and one from before."""
LOOK_SHARE = 0.005
"""Maximum share of the event loop's time that a process may use to find out what it lacks. This can
take long, because a coordinator checks every shard."""


@dataclass(frozen=True)
class Facts:
    """What a process reports about itself in its lease, as plain values."""

    stage: str
    missing: Sequence[str] = ()
    """Reasons why the process is not complete, one line each; empty when it is complete."""
    requests: int = 0
    """Requests under way."""
    oldest_waiting_s: float = 0.0
    """Seconds since the oldest of the requests under way began."""
    busy: float = 0.0
    """Busy share, 0 to 1: the share of time for which the event loop worked, or the share for which
    the other threads worked, whichever is larger (`Busy.share`)."""
    shards_left: int | None = None
    """For a draining agent: how many of its shards are not handed over yet. A shard is handed over
    when every agent that takes it over has it. None for all other processes."""
    engine: str = ""
    """For an agent: the engine that computes its searches."""
    trust: TrustReport = NO_CERTIFICATE
    version: str = __version__
    capabilities: Sequence[str] = capabilities.OURS
    carriers: str = ""
    """For a server: the carriers by which its address can be dialled; empty if only QUIC can be
    used."""
    outside: str = ""
    """For a coordinator: its address, with carriers, for clients outside the fleet's network."""


def told(facts: Facts) -> dict[str, str]:
    """Return the evidence of a lease as texts, of at most `EVIDENCE_BYTES_MAX` bytes in all.

    A text that was cut says so at its end: `CUT`, or the number of words left out.
    """
    texts = {
        "stage": str(facts.stage),
        "complete": _missing(facts.missing),
        "requests": str(facts.requests),
        "oldest_waiting_s": f"{facts.oldest_waiting_s:.1f}",
        "busy": f"{facts.busy:.2f}",
        "version": facts.version,
        "capabilities": " ".join(facts.capabilities),
    }
    if facts.shards_left is not None:
        texts["shards_left"] = str(facts.shards_left)
    if facts.engine:
        texts["engine"] = facts.engine
    if facts.carriers:
        texts["carriers"] = facts.carriers
    if facts.outside:
        texts["outside"] = facts.outside
    if facts.trust.serial:
        texts["serial"] = facts.trust.serial
        texts["not_after"] = f"{facts.trust.not_after_s:.0f}"
        texts["bundle"] = facts.trust.bundle
        room = EVIDENCE_BYTES_MAX - size_of(texts) - len("judged_by")
        texts["judged_by"] = _listed(facts.trust.judged_by, room)
    return texts


def where(member: Member, *, outside: bool = False) -> str:
    """Return the address at which to dial a member, with its carriers in front if it names any.

    Carriers are a separate evidence entry because peers of older versions read the address alone.
    With ``outside``, return the member's address for clients outside the fleet's network, or ""
    if it has none.
    """
    if outside:
        return member.evidence.get("outside", "")
    carriers = member.evidence.get("carriers", "")
    return f"{carriers}://{member.address}" if carriers and member.address else member.address


def size_of(texts: dict[str, str]) -> int:
    """Return the bytes of all keys and values together, which is how sync counts evidence."""
    return sum(len((key + value).encode()) for key, value in texts.items())


def _missing(reasons: Sequence[str]) -> str:
    if not reasons:
        return COMPLETE
    text = "; ".join(reasons)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    data = text.encode()
    if len(data) <= MISSING_BYTES_MAX:
        return text
    return data[: MISSING_BYTES_MAX - len(CUT)].decode(errors="ignore") + CUT


def _listed(words: Sequence[str], room: int) -> str:
    """Return as many of the words, from the first on, as fit in ``room`` characters.

    The words are separated by spaces; words left out are counted at the end, as in ``+3``.
    """
    text = " ".join(words)
    kept = len(words)
    while len(text) > room and kept:
        kept -= 1
        text = " ".join([*words[:kept], f"+{len(words) - kept}"])
    return text


# --- busy ----------------------------------------------------------------------------------------


class Clocks(NamedTuple):
    """Three clocks, read at the same moment, in seconds."""

    wall_s: float
    """Monotonic time."""
    loop_s: float
    """Processor time of the thread that runs the event loop."""
    process_s: float
    """Processor time of all threads."""


class Busy:
    """The share of time for which a process computes, from samples of its clocks; pure."""

    def __init__(self, began: Clocks, *, threads: int) -> None:
        """``threads`` is the number of threads that compute beside the event loop."""
        self._samples = deque([began])
        self._threads = threads

    def share(self, now: Clocks) -> float:
        """Return the busy share of the last `BUSY_S` seconds, from 0 to 1.

        It is the larger of two shares: that of the event loop's thread, and the mean of all other
        threads.
        """
        samples = self._samples
        while len(samples) > 1 and samples[1].wall_s <= now.wall_s - BUSY_S:
            samples.popleft()
        since = samples[0]
        if now.wall_s - samples[-1].wall_s >= SAMPLE_LEAST_S:
            samples.append(now)
        wall_s = now.wall_s - since.wall_s
        if wall_s <= 0:
            return 0.0
        loop_s = now.loop_s - since.loop_s
        others_s = max(0.0, now.process_s - since.process_s - loop_s)
        share = max(loop_s, others_s / self._threads if self._threads else 0.0) / wall_s
        return min(1.0, max(0.0, share))


def read_clocks() -> Clocks:
    """Return the clocks of this moment. Call it in the event loop's thread. Takes about 1 us."""
    return Clocks(time.monotonic(), time.thread_time(), time.process_time())


# --- the shell -----------------------------------------------------------------------------------


class Reporter:
    """Gathers the evidence that the lease of one service carries."""

    def __init__(self, carrier: Carrier, *, threads: int = 0, engine: str = "") -> None:
        """``threads`` is the number of threads that compute beside the event loop; ``engine`` is
        the engine that they compute with."""
        self._carrier = carrier
        self._engine = engine
        self._busy = Busy(read_clocks(), threads=threads)
        self._began_s: dict[int, float] = {}
        """Start time of each request under way, by its number, the oldest first."""
        self._last = 0
        self._missing: Sequence[str] = ()
        self._missing_until_s = float("-inf")

    def counting(self, handle: Handle) -> Handle:
        """Return a handler that calls ``handle`` and counts its requests while they are under way.

        A Tail is not counted, because it does not end while its follower is connected.
        """

        def counted(peer: Peer, frame: Frame) -> Awaitable[Answer | None]:
            if isinstance(frame, Request) and not isinstance(frame, Tail):
                return self._counted(handle, peer, frame)
            return handle(peer, frame)

        return counted

    async def _counted(self, handle: Handle, peer: Peer, frame: Frame) -> Answer | None:
        self._last = number = self._last + 1
        self._began_s[number] = time.monotonic()
        try:
            return await handle(peer, frame)
        finally:
            del self._began_s[number]

    def evidence(
        self,
        stage: str,
        missing: Callable[[], Sequence[str]],
        *,
        shards_left: int | None = None,
        carriers: str = "",
        outside: str = "",
    ) -> dict[str, str]:
        """Return the evidence for the next renewal of the lease.

        ``missing`` returns the reasons why the service is not complete.
        """
        clocks = read_clocks()
        oldest_s = next(iter(self._began_s.values()), clocks.wall_s)
        return told(
            Facts(
                stage=stage,
                missing=self._recent(missing),
                requests=len(self._began_s),
                oldest_waiting_s=clocks.wall_s - oldest_s,
                busy=self._busy.share(clocks),
                shards_left=shards_left,
                engine=self._engine,
                carriers=carriers,
                outside=outside,
                trust=self._carrier.trust_report(),
            )
        )

    def _recent(self, missing: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Return the reasons why the service is not complete, as found now or shortly before.

        The longer a call of ``missing`` takes, the less often it is called: at most the share
        `LOOK_SHARE` of the time is spent on it.
        """
        began_s = time.monotonic()
        if began_s >= self._missing_until_s:
            self._missing = missing()
            ended_s = time.monotonic()
            self._missing_until_s = ended_s + (ended_s - began_s) / LOOK_SHARE
        return self._missing
