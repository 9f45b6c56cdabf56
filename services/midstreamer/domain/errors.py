"""Every error that Midstreamer raises on purpose, in one tree.

    MidstreamerError
    ├─ ProtocolError
    │  ├─ LocalProtocolError      our own side would have broken the protocol
    │  └─ RemoteProtocolError     the peer broke the protocol
    ├─ Refused                    the peer is not admitted
    ├─ BadInput                   the request is wrong; repeating it will not help
    │  ├─ UnknownSeries           nothing is stored of the series
    │  ├─ StaleTick               older than the last tick of its series, and no repetition
    │  ├─ NotGranted              the allowlist does not grant the client this request
    │  ├─ Conflict                the same key was stored with other content
    │  └─ QuotaExceeded           a limit on the number of series or streams is reached
    ├─ Unavailable                retry later, after ``retry_after_s``
    │  ├─ Overloaded              a queue, a peer's share or the connections are full
    │  ├─ Behind                  the server has not applied the requested position yet
    │  ├─ StoreError              PostgreSQL is unreachable, full, or refused the statement
    │  └─ LinkClosed              the connection ended before the response
    ├─ DeadlineExceeded           the request's time ran out
    ├─ Unsupported                the peer's version does not know the request
    ├─ ConfigError                a setting is unknown, missing or out of range
    └─ KernelFailure              a distance could not be computed

Each class has a stable ``code``. Frames, metric labels, logs and docs/reference/errors.md use the
same code. An error message says what happened, to which thing, the value, the limit, and what to
do.
"""

from __future__ import annotations

QUOTED_CHARACTERS_MAX = 200
"""Maximum characters of one value that a message quotes: a peer may send megabytes."""
MESSAGE_CHARACTERS_MAX = 2000
"""Longest message of any error, in characters. It also bounds messages that quote a value in full.
"""


def shortened(text: str, characters_max: int = QUOTED_CHARACTERS_MAX) -> str:
    """Return the text; if it is too long, its beginning followed by its length."""
    if len(text) <= characters_max:
        return text
    ending = f"… ({len(text):,} characters)"
    return text[: characters_max - len(ending)] + ending


def quoted(value: object) -> str:
    """Return the ``repr`` of the value, cut to QUOTED_CHARACTERS_MAX characters."""
    if isinstance(value, str | bytes) and len(value) > QUOTED_CHARACTERS_MAX:
        ending = f"… ({len(value):,} in all)"
        return repr(value[:QUOTED_CHARACTERS_MAX])[: QUOTED_CHARACTERS_MAX - len(ending)] + ending
    return shortened(repr(value))


class MidstreamerError(Exception):
    """Base class of all errors that Midstreamer raises on purpose."""

    code = "error"

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        """Keep the message, cut to MESSAGE_CHARACTERS_MAX characters."""
        self.message = shortened(message, MESSAGE_CHARACTERS_MAX)
        super().__init__(self.message)
        self.retry_after_s = retry_after_s
        """Seconds after which a retry may succeed; 0 when no retry will."""


class ProtocolError(MidstreamerError):
    """A peer or our own side broke a rule of the frame protocol."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """Our own side tried something that the protocol does not allow."""

    code = "protocol_local"


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""

    code = "protocol_remote"


class Refused(MidstreamerError):
    """A peer was not admitted, or a server refused its credentials.

    ``reason`` is a constant of `security.admission` or another short code. It is "" if the server
    gave no reason.
    """

    code = "refused"

    def __init__(self, message: str, *, reason: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.reason = shortened(reason)


class BadInput(MidstreamerError):
    """The request is wrong and cannot be answered; a retry will not help."""

    code = "bad_input"


class UnknownSeries(BadInput):
    """Nothing is stored of the series that the request names."""

    code = "unknown_series"


class StaleTick(BadInput):
    """The tick is older than the last tick of its series, and repeats no stored tick."""

    code = "stale_tick"


class NotGranted(BadInput):
    """The allowlist does not permit this client to append to the universe, or to drain members."""

    code = "not_granted"


class Conflict(BadInput):
    """A tick or decision has the key of an earlier one, but other content.

    The key of a tick is its series and time; the key of a decision is its experience id.
    """

    code = "conflict"


class QuotaExceeded(BadInput):
    """The store, or one identity in it, has reached the permitted number of series or streams."""

    code = "quota_exceeded"


class Unavailable(MidstreamerError):
    """The request cannot be answered now; ``retry_after_s`` says when to retry."""

    code = "unavailable"


class Overloaded(Unavailable):
    """A limit was reached: a queue is full, one peer uses all it may use, or no link is free."""

    code = "overloaded"


class Behind(Unavailable):
    """The server has not yet applied the change-feed position that the request requires."""

    code = "behind"


class StoreError(Unavailable):
    """PostgreSQL is unreachable, full, or refused the statement."""

    code = "store"


class LinkClosed(Unavailable):
    """The connection ended before the response arrived."""

    code = "link_closed"


class DeadlineExceeded(MidstreamerError):
    """The time allowed for a request ran out."""

    code = "deadline"


class Unsupported(MidstreamerError):
    """The peer does not know the request, because the peer has another version."""

    code = "unsupported"


class ConfigError(MidstreamerError):
    """A setting is unknown, missing or out of range; the message names where it was set."""

    code = "config"


class KernelFailure(MidstreamerError):
    """A distance could not be computed.

    Either a WebAssembly kernel trapped or used up its fuel, or the engine is unknown.
    """

    code = "kernel"


def _tree(root: type[MidstreamerError]) -> list[type[MidstreamerError]]:
    """Return the class and all its subclasses, at any depth."""
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


BY_CODE: dict[str, type[MidstreamerError]] = {kind.code: kind for kind in _tree(MidstreamerError)}
"""Each error class by its code."""

FAULTS_OF_THE_SERVER = frozenset(
    {MidstreamerError.code, DeadlineExceeded.code, KernelFailure.code, ConfigError.code}
    | {LocalProtocolError.code}
    | {kind.code for kind in _tree(Unavailable)}
)
"""Codes of errors that the fleet causes; they count against its availability."""
FAULTS_OF_THE_CALLER = frozenset(
    {Refused.code, ProtocolError.code, RemoteProtocolError.code, Unsupported.code}
    | {kind.code for kind in _tree(BadInput)}
)
"""Codes of errors that the caller causes; the same request fails again."""


def from_code(code: str, message: str, retry_after_s: float = 0.0) -> MidstreamerError:
    """Rebuild the error that a Failure frame describes; unknown codes give `MidstreamerError`."""
    kind = BY_CODE.get(code, MidstreamerError)
    return kind(message, retry_after_s=retry_after_s)
