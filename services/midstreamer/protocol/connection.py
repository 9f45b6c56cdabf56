"""State machine of one connection, from its first frame to its last: sans-IO.

Both sides of every link run this machine, over every carrier.  The side that dialled sends
AgentHandshake first.  The side that was dialled answers with CoordinatorAck, which assigns two
streams, or with Refusal.  After that, both sides send frames on either stream until one closes.

How to use it: call `Connection.start` once, `receive` for the bytes of each stream, `tick` at the
time of `next_wakeup_s` (ask again after each call), and `lost` when the wire has closed.  Carry out
the returned effects (`protocol.connection_effects`) in order.  The caller passes the peer's
identity, so a machine can exist only after the peer's certificate was verified.

A peer that breaks a rule is sent a Refusal with a code of `Code`, the connection closes, and later
bytes are ignored.  `protocol.authorisation` decides who may send which frame, and
`protocol.link_exchange` pairs answers with requests.
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
from midstreamer.protocol.connection_effects import Deliver, Effect, Finish, Opened, Transmit
from midstreamer.protocol.frame_deadlines import FRAME_S, FrameDeadlines
from midstreamer.protocol.frames import Frame

CONTROL_STREAM = 0
BULK_STREAM = 4
"""Id of the stream for large frames. QUIC gives ids 0, 4, 8 … to streams of the dialling side."""
HANDSHAKE_BYTES_MAX = 4096
"""Maximum bytes of a frame that is accepted before the handshake is complete."""
MESSAGE_CHARACTERS_MAX = 500  # longest message of a Refusal that we send
HANDSHAKE_S = 5.0  # seconds in which the handshake must complete


class Side(StrEnum):
    """Which side of the connection this machine runs on: the one that dialled, or the server."""

    DIALLED = "dialled"
    ACCEPTED = "accepted"


class State(StrEnum):
    """State of a connection."""

    NEW = "new"
    """`Connection.start` was not called yet."""
    ASKING = "asking"
    """Our side dialled and sent AgentHandshake; the answer is awaited."""
    AWAITING = "awaiting"
    """Our side was dialled; the peer's AgentHandshake is awaited."""
    OPEN = "open"
    """The handshake is complete: both sides may send frames."""
    CLOSED = "closed"
    """Nothing more is sent, and bytes that still arrive are dropped."""


class Code(StrEnum):
    """Reasons why this machine closes a connection, sent as the code of a Refusal."""

    VERSION = "version"
    MALFORMED = "malformed_frame"
    TOO_LARGE = "frame_too_large"
    UNEXPECTED = "unexpected_frame"
    UNKNOWN_STREAM = "unknown_stream"
    CLAIM_MISMATCH = CLAIM_MISMATCH
    TIMEOUT = "handshake_timeout"
    FRAME_TIMEOUT = "frame_timeout"


# --- This section defines the events of a connection. -------------------------------------------


@dataclass(frozen=True, slots=True)
class Dialled:
    """Our side dialled: it opened the connection to the peer."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Our side accepted a connection that the peer opened."""


@dataclass(frozen=True, slots=True)
class HandshakeReceived:
    """A valid AgentHandshake arrived."""

    incarnation: str
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class HandshakeAccepted:
    """A valid CoordinatorAck arrived."""

    streams: frames.AssignedStreams
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """A frame arrived that is no AgentHandshake, CoordinatorAck or Refusal."""

    frame: Frame
    size: int


@dataclass(frozen=True, slots=True)
class RefusalReceived:
    """A Refusal arrived from the peer."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RuleBroken:
    """The peer broke a rule of the protocol; ``code`` is one of `Code`."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class HandshakeTimedOut:
    """The handshake was not complete before its deadline."""


@dataclass(frozen=True, slots=True)
class ClosedHere:
    """Our side closes the connection. With an empty ``code``, no Refusal is sent."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class CarrierEnded:
    """The wire has closed: the peer closed it, or it was lost."""

    code: str
    message: str


Event = (
    Dialled | Accepted | HandshakeReceived | HandshakeAccepted | FrameReceived
    | RefusalReceived | RuleBroken | HandshakeTimedOut | ClosedHere | CarrierEnded
)  # fmt: skip

# These events close the connection in every state after NEW.
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
    # FrameReceived is missing here: a frame before CoordinatorAck breaks a rule.
    State.ASKING: {
        HandshakeAccepted: State.OPEN,
        HandshakeTimedOut: State.CLOSED,
        **_ENDS,
    },
    # FrameReceived is missing here: a frame before AgentHandshake breaks a rule.
    State.AWAITING: {
        HandshakeReceived: State.OPEN,
        HandshakeTimedOut: State.CLOSED,
        **_ENDS,
    },
    # HandshakeReceived and HandshakeAccepted are missing here: a second handshake breaks a rule.
    State.OPEN: {FrameReceived: State.OPEN, **_ENDS},
    # Frames that were on their way when the connection closed still arrive, and are ignored.
    State.CLOSED: dict.fromkeys(
        (HandshakeReceived, HandshakeAccepted, FrameReceived, HandshakeTimedOut, *_ENDS),
        State.CLOSED,
    ),
}

FROM_PEER = (HandshakeReceived, HandshakeAccepted, FrameReceived)
"""Events caused by frames of the peer. If the state does not allow one, the peer broke a rule."""


class Connection:
    """The state machine of one side of one connection."""

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
        """Capabilities in the peer's handshake. Empty before it, and for a peer without any."""
        self.streams = frames.AssignedStreams(CONTROL_STREAM, BULK_STREAM)
        self._incarnation = incarnation
        self._capabilities = capabilities
        self._frame_bytes_max = frame_bytes_max
        self._handshake_s = handshake_s
        self._deadline_s: float | None = None
        self.unfinished = FrameDeadlines(frame_s)
        first = codec.Splitter(frame_bytes_max=min(HANDSHAKE_BYTES_MAX, frame_bytes_max))
        self._splitters = {CONTROL_STREAM: first}
        # The accepting side can write to a stream only after the dialling side wrote to it.
        self._writable = {CONTROL_STREAM} if side is Side.DIALLED else set()
        self._held: list[Transmit] = []

    # --- The methods in this section are called by the code that does the I/O. ---

    def start(self, now_s: float) -> list[Effect]:
        """Start the handshake and its timeout. The dialling side sends AgentHandshake."""
        self._deadline_s = now_s + self._handshake_s
        return self.handle(Dialled() if self.side is Side.DIALLED else Accepted())

    def receive(self, stream: int, data: bytes, now_s: float | None = None) -> list[Effect]:
        """Handle the bytes of a stream. Without ``now_s``, frames get no deadline."""
        if self.closed:
            return []
        splitter = self._splitters.get(stream)
        if splitter is None:
            known = ", ".join(map(str, sorted(self._splitters)))
            return self.handle(
                RuleBroken(Code.UNKNOWN_STREAM, f"stream {stream} is not assigned: use {known}")
            )
        effects = self._now_writable(stream)
        try:
            for body in splitter.feed(data):
                effects += self.handle(self._read(body))  # after a close this adds nothing
            if now_s is not None and (splitter.held_bytes or self.unfinished.begun):
                self.unfinished.note(stream, splitter, now_s)
        except RemoteProtocolError as error:
            effects += self.handle(RuleBroken(Code.TOO_LARGE, error.message))
        return effects

    def send(self, frame: Frame, *, bulk: bool = False) -> list[Effect]:
        """Send a frame. Raise LinkClosed when closed, LocalProtocolError before the handshake."""
        if self.closed:
            raise LinkClosed(f"the connection to {self.peer.name} is closed")
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"{type(frame).__name__} sent before the handshake is done")
        data = codec.encode(frame, frame_bytes_max=self._frame_bytes_max)
        stream = self.streams.bulk if bulk else self.streams.control
        if stream in self._writable:
            return [Transmit(stream, data)]
        self._held.append(Transmit(stream, data))
        return []

    def close(self, code: str = "", message: str = "") -> list[Effect]:
        """Close the connection from our side. With a code, the peer is sent a Refusal."""
        return self.handle(ClosedHere(code, message))

    def lost(self, code: str = "", message: str = "") -> list[Effect]:
        """Handle that the wire below this connection has closed, or that it was lost.

        ``code`` and ``message`` give the reason. They are empty if there is none.
        """
        return self.handle(CarrierEnded(code, message))

    def tick(self, now_s: float) -> list[Effect]:
        """Close the connection if the handshake or a frame has missed its deadline."""
        if self._deadline_s is not None and now_s >= self._deadline_s:
            return self.handle(HandshakeTimedOut())
        overdue = self.unfinished.overdue(now_s)
        return self.handle(RuleBroken(Code.FRAME_TIMEOUT, overdue)) if overdue else []

    def next_wakeup_s(self) -> float | None:
        """Return the time at which to call `tick`; None while there is no deadline."""
        frame_s = self.unfinished.next_s()
        if frame_s is None or self._deadline_s is None:
            return self._deadline_s if frame_s is None else frame_s
        return min(frame_s, self._deadline_s)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended: nothing more is sent or read."""
        return self.state is State.CLOSED

    @property
    def held_bytes(self) -> int:
        """Number of bytes that cannot be sent yet.

        The accepting side may send on a stream only after the dialling side has sent on it.
        """
        return sum(len(transmit.data) for transmit in self._held)

    # --- the machine ---

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and return the effects, to be carried out in order."""
        after = TRANSITIONS[self.state].get(type(event))
        if after is None and isinstance(event, FROM_PEER):
            what = _name(event.frame) if isinstance(event, FrameReceived) else type(event).__name__
            return self.handle(RuleBroken(Code.UNEXPECTED, f"{what} forbidden while {self.state}"))
        if after is None:
            allowed = ", ".join(kind.__name__ for kind in TRANSITIONS[self.state])
            raise LocalProtocolError(f"{event!r} while {self.state}; allowed events: {allowed}")
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
                return self._refuse(Code.TIMEOUT, f"no handshake within {self._handshake_s:g} s")
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
        """Free all buffers and deadlines, because nothing more is read or sent."""
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

    # --- This section turns received bytes into events. ---

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
            Code.UNKNOWN_STREAM, f"{quoted(streams)}: control must be 0, bulk a multiple of 4"
        )
    return HandshakeAccepted(streams, frozenset(frame.capabilities))


def _name(frame: Frame) -> str:
    return frame.name if isinstance(frame, frames.Unknown) else type(frame).__name__


def _other_version(version: int) -> RuleBroken:
    return RuleBroken(Code.VERSION, f"protocol version {version}; {frames.VERSION} is required")
