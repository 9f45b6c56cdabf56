"""Sets an OpenTelemetry provider during a test, as an application that uses the client may do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from midstreamer.telemetry import tracing


@contextlib.contextmanager
def provided(provider: TracerProvider | None) -> Iterator[None]:
    """Set this OpenTelemetry provider, or none; restore the previous provider when the block ends.

    OpenTelemetry lets a process set its provider only once. Many tests share a process, so this
    function sets OpenTelemetry's private variable. At the end it also turns our own spans off.
    """
    before = trace._TRACER_PROVIDER
    trace._TRACER_PROVIDER = provider
    try:
        yield
    finally:
        trace._TRACER_PROVIDER = before
        tracing.close()
