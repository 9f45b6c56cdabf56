"""An application's own provider of OpenTelemetry, for as long as a test needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from midstreamer.telemetry import tracing


@contextlib.contextmanager
def provided(provider: TracerProvider | None) -> Iterator[None]:
    """The application has this provider, or none; what was before is put back at the end.

    OpenTelemetry lets a process set its provider once, which is for good.  A test is one of many in
    its process, so it sets the variable itself, and turns off what the SDK has adopted meanwhile.
    """
    before = trace._TRACER_PROVIDER
    trace._TRACER_PROVIDER = provider
    try:
        yield
    finally:
        trace._TRACER_PROVIDER = before
        tracing.close()
