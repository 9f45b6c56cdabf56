"""Effects of the state machine `protocol.connection`: what the code that does the I/O must do."""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.protocol.frames import Frame


@dataclass(frozen=True, slots=True)
class Transmit:
    """Write ``data`` to the stream with the id ``stream``."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake is complete: frames may be sent."""

    incarnation: str
    """The peer's incarnation, from its AgentHandshake; empty on the side that dialled."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand a received frame to the application."""

    frame: Frame
    size: int
    """Bytes of the encoded frame, its length prefix included."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the carrier's connection, for the reason given by ``code`` and ``message``."""

    code: str
    message: str
    by_peer: bool
    """True: the peer refused us or the carrier ended. False: our side closes the connection."""


Effect = Transmit | Opened | Deliver | Finish
