"""Structured logs on standard error: one line per event, as JSON or for a terminal.

The event name is a constant ``noun.verb``, and all other data are keys of the line, so that lines
can be counted.  Levels mean: error - somebody must act; warning - the process handled a problem;
info - state changed; debug - details, off by default.  Libraries that log through `logging` have
their lines written in the same way, from level warning upward.

Lines that a peer or a stranger can cause are rate limited (`telemetry.log_throttle`).  The next
written line says in the key ``left_out`` how many lines were left out, and a metric counts them.

Secrets are never logged: a processor hides the values of keys that are named like secrets, PEM
blocks anywhere in a text, and passwords in URLs and after ``password=``.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from midstreamer.telemetry import label_values, metrics
from midstreamer.telemetry.log_throttle import Throttle

_trace_ids: Callable[[], Mapping[str, str]] = dict
LEVELS = ("debug", "info", "warning", "error")
HIDDEN = "[hidden]"

_SECRET_NAME = re.compile(
    r"(^|_)(password|passphrase|secret|token|private|private_key|key_pem|credential)s?($|_)"
)
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|\Z)", re.DOTALL)
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^/\s:@?#]*:)(?!\*\*\*@)[^@\s/?#]+(?=@)")
_ACCOUNT = re.compile(rf"[^\s:@/?#]*(:({re.escape(HIDDEN)}|\*\*\*))?")
_POSTGRES = re.compile(
    r"(?P<head>postgres(?:ql)?://)(?P<account>(?:(?!postgres(?:ql)?://)[^\n])*)(?=@)"
)
"""Matches a PostgreSQL URL from its scheme to the last @ of the line.

The text between the scheme and this @ is the account (user and password).  The last @ is used
because a password that is not escaped may itself contain an @, a slash or a space."""
_NO_HOST = re.compile(
    r"(?P<head>postgres(?:ql)?://[^\s/:@?#]*:)(?!\[hidden\]|\*\*\*|\d+(?!\w))[^\s'\"]+"
)
_ASSIGNED = re.compile(
    r"""
    (?P<head>(?:ssl)?pass(?:word|wd|phrase)\s*=\s*)
    (?!\*\*\*|\[hidden\])
    (?:'(?:\\.|''|[^'\\])*(?:'|\Z)|"(?:\\.|[^"\\])*(?:"|\Z)|(?:\\.|[^\s&'",;)\]}])+)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def scrub(text: str) -> str:
    """Return the text with PEM blocks and passwords (in URLs, in ``password=…``) hidden."""
    text = _URL_PASSWORD.sub(rf"\g<head>{HIDDEN}", _PEM.sub(HIDDEN, text))
    text = _POSTGRES.sub(_without_account, text)
    text = _NO_HOST.sub(rf"\g<head>{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\g<head>{HIDDEN}", text)


def _without_account(found: re.Match[str]) -> str:
    """Return the text that `_POSTGRES` matched, with user and password hidden.

    They stay visible if they hold no secret: a user name alone, or a user name with a password that
    is hidden already.
    """
    clean = _ACCOUNT.fullmatch(found["account"])
    return found[0] if clean else f"{found['head']}{HIDDEN}"


def hide_secrets(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Structlog processor: replace secrets in the values of a line. The keys stay as they are."""
    for name, value in event.items():
        event[name] = HIDDEN if _SECRET_NAME.search(name.lower()) else _hidden(value)
    return event


def limiting(throttle: Throttle) -> structlog.typing.Processor:
    """Return a structlog processor that limits the rate of log lines that peers can cause.

    Lines beyond the limit are dropped and counted.
    """

    def limit(
        logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        name = event.get("event", "")
        if name not in label_values.EVENTS_BY_PEERS:
            return event
        left_out = throttle.admit(name, time.monotonic())
        if left_out is None:
            metrics.LOG_LINES_LEFT_OUT.labels(name).inc()
            raise structlog.DropEvent
        if left_out:
            event["left_out"] = left_out
        return event

    return limit


def add_trace(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Structlog processor: add the ids of the current trace and span to a line."""
    event.update(_trace_ids())
    return event


def name_traces(ids: Callable[[], Mapping[str, str]]) -> None:
    """Set the function that returns the ids of trace and span to add to each line.

    `telemetry.tracing` calls this, so that this module need not import OpenTelemetry.
    """
    global _trace_ids
    _trace_ids = ids


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, bytes):
        return HIDDEN if b"-----BEGIN" in value else value.hex()
    if isinstance(value, dict):
        return {
            name: HIDDEN if _SECRET_NAME.search(str(name).lower()) else _hidden(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return value


def _shared() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]


def configure(json: bool, level: str = "info") -> None:
    """Write all logs of this process to standard error; call once, at the start of the process.

    ``json`` chooses one JSON object per line instead of text; ``level`` is the lowest level that is
    written.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, hide_secrets, structlog.processors.JSONRenderer()]
        if json
        else [
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("midstreamer").setLevel(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            limiting(Throttle()),
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module: ``log = logs.get(__name__)``."""
    return structlog.stdlib.get_logger(name)


def bind(**keys: Any) -> None:
    """Add keys (``agent``, ``task``) to every later line of this task and its children."""
    structlog.contextvars.bind_contextvars(**keys)
