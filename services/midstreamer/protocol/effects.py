"""What a connection wants done: effects of `protocol.connection`, for its shell to carry out."""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.protocol.frames import Frame


@dataclass(frozen=True, slots=True)
class Transmit:
    """Write these bytes to this stream."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake is done; frames may be sent."""

    incarnation: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """A frame for the application, and the bytes it took."""

    frame: Frame
    size: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the carrier; ``by_peer`` tells on whose account."""

    code: str
    message: str
    by_peer: bool


Effect = Transmit | Opened | Deliver | Finish
