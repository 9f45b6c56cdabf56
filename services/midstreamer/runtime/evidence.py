"""What a lease tells operators of its process, for `midstreamer status` to show.

`told` is pure: it makes the texts of a lease from plain numbers.  `Reporter` gathers the numbers of
one service.  Only the counting of requests costs something at each request; everything else is read
when the lease is renewed.
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
from midstreamer.runtime.conversation import Handle, Peer
from midstreamer.transport.carrier import Carrier, TrustReport

COMPLETE = "yes"
NO_CERTIFICATE = TrustReport()
MISSING_BYTES_MAX = 400
"""Of the text that says what is missing: the lease has to have room for everything else."""
CUT = "..."
BUSY_S = 10.0
"""The busy share is that of about the last ten seconds."""
SAMPLE_LEAST_S = 1.0
"""Two remembered samples are this far apart: at most 11 are kept."""
LOOK_SHARE = 0.005
"""Of the event loop's time, for finding out what is missing: a coordinator looks at every shard."""


@dataclass(frozen=True)
class Facts:
    """What is told of a process, as numbers."""

    stage: str
    missing: Sequence[str] = ()
    """Why it is not complete, each reason in one line; empty when it is."""
    requests: int = 0
    """Requests under way."""
    oldest_waiting_s: float = 0.0
    busy: float = 0.0
    """Share of time that the event loop or the threads worked, 0 to 1."""
    shards_left: int | None = None
    """Of an agent that drains: shards that others have yet to hold; None for other processes."""
    engine: str = ""
    """Of an agent: what computes its searches."""
    trust: TrustReport = NO_CERTIFICATE
    version: str = __version__
    capabilities: Sequence[str] = capabilities.OURS
    carriers: str = ""
    """Of a server: those that lead to its address, where it is not QUIC alone."""
    outside: str = ""
    """Of a coordinator: the address that leads to it from outside, with its carriers."""


def told(facts: Facts) -> dict[str, str]:
    """The texts of a lease, at most `EVIDENCE_BYTES_MAX` in all; what was cut says so."""
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
    """Where to dial a member: its address, with its carriers in front where it tells them.

    They stand apart because a peer of an older version reads the address alone.  ``outside``: the
    address that leads to it from there; empty where it tells none.
    """
    if outside:
        return member.evidence.get("outside", "")
    carriers = member.evidence.get("carriers", "")
    return f"{carriers}://{member.address}" if carriers and member.address else member.address


def size_of(texts: dict[str, str]) -> int:
    """Bytes of keys and values together, as sync counts them."""
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
    """The first of these words, as many as there is room for, and how many were left out."""
    text = " ".join(words)
    kept = len(words)
    while len(text) > room and kept:
        kept -= 1
        text = " ".join([*words[:kept], f"+{len(words) - kept}"])
    return text


# --- busy ----------------------------------------------------------------------------------------


class Clocks(NamedTuple):
    """Three clocks, read together."""

    wall_s: float
    loop_s: float
    """Processor time of the thread that runs the event loop."""
    process_s: float
    """Processor time of all threads."""


class Busy:
    """The share of time worked, from clocks that are read now and then; pure."""

    def __init__(self, began: Clocks, *, threads: int) -> None:
        """``threads``: those that compute beside the event loop."""
        self._samples = deque([began])
        self._threads = threads

    def share(self, now: Clocks) -> float:
        """The larger of the loop's share and that of the other threads, since `BUSY_S` ago."""
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
    """The clocks now; call it in the thread of the event loop. Takes about 1 us."""
    return Clocks(time.monotonic(), time.thread_time(), time.process_time())


# --- the shell -----------------------------------------------------------------------------------


class Reporter:
    """Gathers what the lease of one service tells."""

    def __init__(self, carrier: Carrier, *, threads: int = 0, engine: str = "") -> None:
        """``threads`` that compute beside the event loop, and the ``engine`` that they use."""
        self._carrier = carrier
        self._engine = engine
        self._busy = Busy(read_clocks(), threads=threads)
        self._began_s: dict[int, float] = {}
        """When each request that is under way began, the oldest first."""
        self._last = 0
        self._missing: Sequence[str] = ()
        self._missing_until_s = float("-inf")

    def counting(self, handle: Handle) -> Handle:
        """The same handler; its requests are counted while they are under way."""

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
        """What the lease tells now; ``missing`` says why the service is not complete."""
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
        """What is missing, as found now or a little earlier: the longer it takes, the rarer."""
        began_s = time.monotonic()
        if began_s >= self._missing_until_s:
            self._missing = missing()
            ended_s = time.monotonic()
            self._missing_until_s = ended_s + (ended_s - began_s) / LOOK_SHARE
        return self._missing
