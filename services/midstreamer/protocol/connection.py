"""One connection, from its first frame to its last: sans-IO.

Both sides of every link run this machine, whatever carries it.  The side that dialled speaks
first: AgentHandshake.  The side that was dialled answers CoordinatorAck, which assigns two
streams, or Refusal.  After that frames flow both ways on either stream until somebody closes.

How to drive it: call `start` once, `receive` with whatever a stream brought, `tick` when
`next_wakeup_s` has come (it may move meanwhile), `lost` when the carrier ends by itself; carry out
the effects (`protocol.effects`) in order.  The peer's certified identity is handed in: a machine
exists only after its peer was judged.

What breaks a rule closes the connection: a Refusal with one of the codes below goes out, and
nothing that comes later is read.  Who may send which frame is not decided here
(`protocol.authorisation`), nor what an answer belongs to (`runtime.peer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from midstreamer.domain.errors import (
    LinkClosed,
    LocalProtocolError,
    RemoteProtocolError,
    quoted,
    shortened,
)
from midstreamer.domain.identity import Identity
from midstreamer.protocol import capabilities, codec, frames
from midstreamer.protocol.authorisation import CLAIM_MISMATCH
from midstreamer.protocol.deadlines import FRAME_S, FrameDeadlines
from midstreamer.protocol.effects import Deliver, Effect, Finish, Opened, Transmit
from midstreamer.protocol.frames import Frame

CONTROL_STREAM = 0
BULK_STREAM = 4
"""Bidirectional streams that the dialling side opens have ids 0, 4, 8 … in QUIC."""
HANDSHAKE_BYTES_MAX = 4096
"""No larger frame is taken before the handshake is done."""
MESSAGE_CHARACTERS_MAX = 500
HANDSHAKE_S = 5.0


class Side(StrEnum):
    """Which end of the connection this is."""

    DIALLED = "dialled"
    ACCEPTED = "accepted"


class State(StrEnum):
    """Where a connection stands."""

    NEW = "new"
    """Made; nobody has spoken."""
    ASKING = "asking"
    """We dialled and sent the handshake; the answer is awaited."""
    AWAITING = "awaiting"
    """We were dialled; the handshake is awaited."""
    OPEN = "open"
    """Frames flow both ways."""
    CLOSED = "closed"
    """Nothing more is sent, and what still comes is dropped."""


class Code(StrEnum):
    """Why a connection was closed by this machine; the code of the Refusal."""

    VERSION = "version"
    MALFORMED = "malformed_frame"
    TOO_LARGE = "frame_too_large"
    UNEXPECTED = "unexpected_frame"
    UNKNOWN_STREAM = "unknown_stream"
    CLAIM_MISMATCH = CLAIM_MISMATCH
    TIMEOUT = "handshake_timeout"
    FRAME_TIMEOUT = "frame_timeout"


# --- what happens to a connection ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dialled:
    """Our side opened the connection."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Our side was connected to."""


@dataclass(frozen=True, slots=True)
class HandshakeReceived:
    """A handshake came that is in order."""

    incarnation: str
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class HandshakeAccepted:
    """An acknowledgement came that is in order."""

    streams: frames.AssignedStreams
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """Any other frame came."""

    frame: Frame
    size: int


@dataclass(frozen=True, slots=True)
class RefusalReceived:
    """A Refusal came."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RuleBroken:
    """The peer broke a rule."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class HandshakeTimedOut:
    """The handshake did not come in time."""


@dataclass(frozen=True, slots=True)
class ClosedHere:
    """Our side closes."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CarrierEnded:
    """The carrier ended: the peer is gone, or it closed with a reason."""

    code: str
    message: str


Event = (
    Dialled | Accepted | HandshakeReceived | HandshakeAccepted | FrameReceived
    | RefusalReceived | RuleBroken | HandshakeTimedOut | ClosedHere | CarrierEnded
)  # fmt: skip

# Ways to end are the same from every state that has begun.
_ENDS: dict[type[Event], State] = {
    RefusalReceived: State.CLOSED,
    RuleBroken: State.CLOSED,
    ClosedHere: State.CLOSED,
    CarrierEnded: State.CLOSED,
}

TRANSITIONS: dict[State, dict[type[Event], State]] = {
    State.NEW: {
        Dialled: State.ASKING,
        Accepted: State.AWAITING,
        ClosedHere: State.CLOSED,
        CarrierEnded: State.CLOSED,
    },
    # A frame before the acknowledgement is not here: it breaks a rule.
    State.ASKING: {
        HandshakeAccepted: State.OPEN,
        HandshakeTimedOut: State.CLOSED,
        **_ENDS,
    },
    # A frame before the handshake is not here either.
    State.AWAITING: {
        HandshakeReceived: State.OPEN,
        HandshakeTimedOut: State.CLOSED,
        **_ENDS,
    },
    # A second handshake or acknowledgement breaks a rule.
    State.OPEN: {FrameReceived: State.OPEN, **_ENDS},
    # What was under way when we closed arrives late; nothing is left to do.
    State.CLOSED: dict.fromkeys(
        (HandshakeReceived, HandshakeAccepted, FrameReceived, HandshakeTimedOut, *_ENDS),
        State.CLOSED,
    ),
}

FROM_PEER = (HandshakeReceived, HandshakeAccepted, FrameReceived)
"""Events that a peer can bring about out of order; out of order they are a breach."""


class Connection:
    """The machine of one side."""

    def __init__(
        self,
        side: Side,
        *,
        me: Identity,
        peer: Identity,
        incarnation: str = "",
        capabilities: tuple[str, ...] = capabilities.OURS,
        frame_bytes_max: int = frames.FRAME_BYTES_MAX,
        handshake_s: float = HANDSHAKE_S,
        frame_s: float = FRAME_S,
    ) -> None:
        self.side = side
        self.state = State.NEW
        self.me = me
        self.peer = peer
        self.peer_incarnation = ""
        self.peer_capabilities: frozenset[str] = frozenset()
        """What its handshake named; nothing before, and of a peer of an older version."""
        self.streams = frames.AssignedStreams(CONTROL_STREAM, BULK_STREAM)
        self._incarnation = incarnation
        self._capabilities = capabilities
        self._frame_bytes_max = frame_bytes_max
        self._handshake_s = handshake_s
        self._deadline_s: float | None = None
        self.unfinished = FrameDeadlines(frame_s)
        first = codec.Splitter(frame_bytes_max=min(HANDSHAKE_BYTES_MAX, frame_bytes_max))
        self._splitters = {CONTROL_STREAM: first}
        # A stream exists for the accepting side only once the dialling side wrote to it.
        self._writable = {CONTROL_STREAM} if side is Side.DIALLED else set()
        self._held: list[Transmit] = []

    # --- calls of the shell ---

    def start(self, now_s: float) -> list[Effect]:
        """Begin: the dialling side speaks, the other waits; both for a limited time."""
        self._deadline_s = now_s + self._handshake_s
        return self.handle(Dialled() if self.side is Side.DIALLED else Accepted())

    def receive(self, stream: int, data: bytes, now_s: float | None = None) -> list[Effect]:
        """Take what a stream brought; without a time, no deadline of a frame begins."""
        if self.closed:
            return []
        splitter = self._splitters.get(stream)
        if splitter is None:
            known = ", ".join(map(str, sorted(self._splitters)))
            return self.handle(
                RuleBroken(Code.UNKNOWN_STREAM, f"data on stream {stream}; assigned: {known}")
            )
        effects = self._now_writable(stream)
        try:
            for body in splitter.feed(data):
                effects += self.handle(self._read(body))  # nothing, once it has closed
            if now_s is not None and (splitter.held_bytes or self.unfinished.begun):
                self.unfinished.note(stream, splitter, now_s)
        except RemoteProtocolError as error:
            effects += self.handle(RuleBroken(Code.TOO_LARGE, error.message))
        return effects

    def send(self, frame: Frame, *, bulk: bool = False) -> list[Effect]:
        """Say something; LinkClosed when it is too late, LocalProtocolError when too early."""
        if self.closed:
            raise LinkClosed(f"the connection to {self.peer.name} is closed")
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"{type(frame).__name__} before the handshake is done")
        data = codec.encode(frame, frame_bytes_max=self._frame_bytes_max)
        stream = self.streams.bulk if bulk else self.streams.control
        if stream in self._writable:
            return [Transmit(stream, data)]
        self._held.append(Transmit(stream, data))
        return []

    def close(self, code: str = "", message: str = "") -> list[Effect]:
        """End it from our side; with a code, the peer is told."""
        return self.handle(ClosedHere(code, message))

    def lost(self, code: str = "", message: str = "") -> list[Effect]:
        """The carrier ended by itself."""
        return self.handle(CarrierEnded(code, message))

    def tick(self, now_s: float) -> list[Effect]:
        """The time of `next_wakeup_s` may have come."""
        if self._deadline_s is not None and now_s >= self._deadline_s:
            return self.handle(HandshakeTimedOut())
        overdue = self.unfinished.overdue(now_s)
        return self.handle(RuleBroken(Code.FRAME_TIMEOUT, overdue)) if overdue else []

    def next_wakeup_s(self) -> float | None:
        """When to call `tick`; None while nothing is awaited."""
        frame_s = self.unfinished.next_s()
        if frame_s is None or self._deadline_s is None:
            return self._deadline_s if frame_s is None else frame_s
        return min(frame_s, self._deadline_s)

    @property
    def closed(self) -> bool:
        """Whether nothing more is sent or read."""
        return self.state is State.CLOSED

    @property
    def held_bytes(self) -> int:
        """Bytes that wait for their stream to exist."""
        return sum(len(transmit.data) for transmit in self._held)

    # --- the machine ---

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event; the effects are to be carried out in order."""
        after = TRANSITIONS[self.state].get(type(event))
        if after is None and isinstance(event, FROM_PEER):
            what = _name(event.frame) if isinstance(event, FrameReceived) else type(event).__name__
            return self.handle(RuleBroken(Code.UNEXPECTED, f"{what} while {self.state}"))
        if after is None:
            allowed = ", ".join(kind.__name__ for kind in TRANSITIONS[self.state])
            raise LocalProtocolError(f"{event!r} while {self.state}; allowed: {allowed}")
        before, self.state = self.state, after
        if after in (State.OPEN, State.CLOSED):
            self._deadline_s = None
        if after is State.CLOSED:
            self._release()
        return [] if before is State.CLOSED else self._effects(event)

    def _effects(self, event: Event) -> list[Effect]:
        match event:
            case FrameReceived(frame, size):
                return [Deliver(frame, size)]
            case Dialled():
                return [self._on_control(self._greeting())]
            case Accepted():
                return []
            case HandshakeReceived(incarnation, named):
                self.peer_capabilities = named
                return self._opened(incarnation, self._on_control(self._welcome()))
            case HandshakeAccepted(streams, named):
                self.streams, self.peer_capabilities = streams, named
                return self._opened("", Transmit(streams.bulk, codec.OPENING))
            case RefusalReceived(code, message) | CarrierEnded(code, message):
                return [Finish(code, message, by_peer=True)]
            case HandshakeTimedOut():
                return self._refuse(Code.TIMEOUT, f"no handshake in {self._handshake_s:g} s")
            case RuleBroken(code, message) | ClosedHere(code, message):
                return self._refuse(code, message)

    def _opened(self, incarnation: str, answer: Transmit) -> list[Effect]:
        self.peer_incarnation = incarnation
        self._splitters[CONTROL_STREAM].frame_bytes_max = self._frame_bytes_max
        bulk = codec.Splitter(frame_bytes_max=self._frame_bytes_max)
        self._splitters[self.streams.bulk] = bulk
        if self.side is Side.DIALLED:
            self._writable.add(self.streams.bulk)
        return [answer, Opened(incarnation)]

    def _refuse(self, code: str, message: str) -> list[Effect]:
        message = message[:MESSAGE_CHARACTERS_MAX]
        finish = Finish(code, message, by_peer=False)
        if not code or CONTROL_STREAM not in self._writable:
            return [finish]
        return [self._on_control(frames.Refusal(code, message)), finish]

    def _release(self) -> None:
        """Nothing more is read or sent, so nothing is held."""
        self.unfinished.clear()
        self._held.clear()
        for splitter in self._splitters.values():
            splitter.release()

    def _now_writable(self, stream: int) -> list[Effect]:
        if stream in self._writable:
            return []
        self._writable.add(stream)
        ready: list[Effect] = [held for held in self._held if held.stream == stream]
        self._held = [held for held in self._held if held.stream != stream]
        return ready

    def _on_control(self, frame: Frame) -> Transmit:
        return Transmit(CONTROL_STREAM, codec.encode(frame))

    def _greeting(self) -> Frame:
        return frames.AgentHandshake(
            self.me.id,
            self.me.kind,
            frames.VERSION,
            incarnation=self._incarnation,
            capabilities=self._capabilities,
        )

    def _welcome(self) -> Frame:
        return frames.CoordinatorAck(self.me.id, self.streams, capabilities=self._capabilities)

    # --- from bytes to events ---

    def _read(self, body: bytes) -> Event:
        try:
            frame = codec.decode(body)
        except RemoteProtocolError as error:
            return RuleBroken(Code.MALFORMED, error.message)
        match frame:
            case frames.AgentHandshake():
                return _judge_handshake(self.peer, frame)
            case frames.CoordinatorAck():
                return _judge_acknowledgement(self.peer, frame)
            case frames.Refusal(code, message):
                return RefusalReceived(code, message)
            case _:
                return FrameReceived(frame, codec.HEAD_BYTES + len(body))


def _judge_handshake(peer: Identity, frame: frames.AgentHandshake) -> Event:
    if frame.version != frames.VERSION:
        return _other_version(frame.version)
    if (frame.agent_type, frame.agent_id) != (peer.kind, peer.id):
        return RuleBroken(
            Code.CLAIM_MISMATCH,
            f"handshake claims {shortened(f'{frame.agent_type}/{frame.agent_id}')},"
            f" certificate says {peer.name}",
        )
    return HandshakeReceived(frame.incarnation, frozenset(frame.capabilities))


def _judge_acknowledgement(peer: Identity, frame: frames.CoordinatorAck) -> Event:
    streams = frame.assigned_streams
    if frame.version != frames.VERSION:
        return _other_version(frame.version)
    if frame.coordinator_id != peer.id:
        return RuleBroken(
            Code.CLAIM_MISMATCH,
            f"acknowledgement claims {quoted(frame.coordinator_id)}, certificate says {peer.name}",
        )
    if streams.control != CONTROL_STREAM or streams.bulk <= 0 or streams.bulk % 4:
        return RuleBroken(
            Code.UNKNOWN_STREAM, f"{quoted(streams)} cannot be opened by the dialling side"
        )
    return HandshakeAccepted(streams, frozenset(frame.capabilities))


def _name(frame: Frame) -> str:
    return frame.name if isinstance(frame, frames.Unknown) else type(frame).__name__


def _other_version(version: int) -> RuleBroken:
    return RuleBroken(Code.VERSION, f"version {version} is not spoken here; speak {frames.VERSION}")
