"""Every error a part of Midstreamer may raise on purpose, in one tree.

    MidstreamerError
    ├─ ProtocolError
    │  ├─ LocalProtocolError      we would have broken the protocol
    │  └─ RemoteProtocolError     the peer broke it
    ├─ Refused                    a peer was judged and turned away
    ├─ BadInput                   what was asked cannot be answered as asked
    │  ├─ UnknownSeries
    │  ├─ StaleTick               older than the last of its series, and not stored
    │  ├─ NotGranted              the allowlist grants this client no such universe
    │  ├─ Conflict                the same key with another content
    │  └─ QuotaExceeded           no further series or stream for this identity
    ├─ Unavailable                try again later; carries ``retry_after_s``
    │  ├─ Overloaded
    │  ├─ Behind                  has not seen the position that was asked for
    │  ├─ StoreError              PostgreSQL is away, full, or refused
    │  └─ LinkClosed              the connection ended before the answer
    ├─ DeadlineExceeded
    ├─ Unsupported                the other side is of a version that does not know the request
    ├─ ConfigError
    └─ KernelFailure              a measure could not be computed

Each class has a stable ``code``: the same word in the frame, the metric label, the log and
docs/reference/errors.md.  A message says what happened, to what, the value seen, the value
allowed, and what to do about it.
"""

from __future__ import annotations

QUOTED_CHARACTERS_MAX = 200
"""Most of one value that a message quotes: what a peer sends may be megabytes long."""
MESSAGE_CHARACTERS_MAX = 2000
"""Longest message of any error, so that a value that was quoted whole stays bounded too."""


def shortened(text: str, characters_max: int = QUOTED_CHARACTERS_MAX) -> str:
    """The text, or its beginning and its length."""
    if len(text) <= characters_max:
        return text
    ending = f"… ({len(text):,} characters)"
    return text[: characters_max - len(ending)] + ending


def quoted(value: object) -> str:
    """The value as Python writes it, at most QUOTED_CHARACTERS_MAX of it."""
    if isinstance(value, str | bytes) and len(value) > QUOTED_CHARACTERS_MAX:
        ending = f"… ({len(value):,} in all)"
        return repr(value[:QUOTED_CHARACTERS_MAX])[: QUOTED_CHARACTERS_MAX - len(ending)] + ending
    return shortened(repr(value))


class MidstreamerError(Exception):
    """The root; catch it to catch everything that is foreseen."""

    code = "error"

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        self.message = shortened(message, MESSAGE_CHARACTERS_MAX)
        super().__init__(self.message)
        self.retry_after_s = retry_after_s
        """Seconds after which asking again may help; 0 when it will not."""


class ProtocolError(MidstreamerError):
    """A rule of the wire was broken."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """Our own side tried something the protocol does not allow."""

    code = "protocol_local"


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol does not allow."""

    code = "protocol_remote"


class Refused(MidstreamerError):
    """A peer was judged and turned away; ``reason`` is one of security.decide's constants."""

    code = "refused"

    def __init__(self, message: str, *, reason: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.reason = shortened(reason)


class BadInput(MidstreamerError):
    """What was asked cannot be answered as asked; asking again will not help."""

    code = "bad_input"


class UnknownSeries(BadInput):
    """A series of which nothing is stored."""

    code = "unknown_series"


class StaleTick(BadInput):
    """A tick that is not stored and is older than the last of its series."""

    code = "stale_tick"


class NotGranted(BadInput):
    """The allowlist does not let this client append to the universe, or ask members to drain."""

    code = "not_granted"


class Conflict(BadInput):
    """The same key with another content; the message names both."""

    code = "conflict"


class QuotaExceeded(BadInput):
    """The store, or one identity in it, has as many series or streams as the settings allow."""

    code = "quota_exceeded"


class Unavailable(MidstreamerError):
    """Not now; ``retry_after_s`` says when to ask again."""

    code = "unavailable"


class Overloaded(Unavailable):
    """A bound was reached: a queue, the credits of a peer, a number of connections."""

    code = "overloaded"


class Behind(Unavailable):
    """The part asked has not yet seen the position the request insists on."""

    code = "behind"


class StoreError(Unavailable):
    """PostgreSQL is away, full, or refused."""

    code = "store"


class LinkClosed(Unavailable):
    """The connection ended before the answer came."""

    code = "link_closed"


class DeadlineExceeded(MidstreamerError):
    """The time given for a request ran out."""

    code = "deadline"


class Unsupported(MidstreamerError):
    """A request that the other side does not know: its version is another."""

    code = "unsupported"


class ConfigError(MidstreamerError):
    """A setting is unknown, missing or out of its range; the message names its source."""

    code = "config"


class KernelFailure(MidstreamerError):
    """A measure could not be computed: out of fuel, a trap, no such engine."""

    code = "kernel"


def _tree(root: type[MidstreamerError]) -> list[type[MidstreamerError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


BY_CODE: dict[str, type[MidstreamerError]] = {kind.code: kind for kind in _tree(MidstreamerError)}

FAULTS_OF_THE_SERVER = frozenset(
    {MidstreamerError.code, DeadlineExceeded.code, KernelFailure.code, ConfigError.code}
    | {LocalProtocolError.code}
    | {kind.code for kind in _tree(Unavailable)}
)
"""Codes of answers for which the fleet is to blame: they count against its availability."""
FAULTS_OF_THE_CALLER = frozenset(
    {Refused.code, ProtocolError.code, RemoteProtocolError.code, Unsupported.code}
    | {kind.code for kind in _tree(BadInput)}
)
"""Codes of answers for which whoever asked is to blame: asked so again, they come again."""


def from_code(code: str, message: str, retry_after_s: float = 0.0) -> MidstreamerError:
    """Rebuild the error that a Failure frame describes; an unknown code gives the root."""
    kind = BY_CODE.get(code, MidstreamerError)
    return kind(message, retry_after_s=retry_after_s)
