"""Report why a pod is not ready: in its log, in Kubernetes Events, and in its termination message.

A pod may have to wait, because the operator does not run or denies the certificate, the database
cannot be reached, or sync does not answer.  The answer of ``/readyz`` gives the reason, but
Kubernetes shows only the status of a failed probe.  ``kubectl describe pod`` shows the Events of
the pod.  It also shows the termination message of a container that was stopped while it waited.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from midstreamer.cluster import pod_events
from midstreamer.cluster.api import Api
from midstreamer.domain.errors import MidstreamerError, shortened
from midstreamer.telemetry import logs

TERMINATION = Path("/dev/termination-log")
"""File from which the kubelet reads a container's termination message."""
TERMINATION_CHARACTERS_MAX = 2000
"""Maximum characters of a termination message; the kubelet reads 4,096 bytes."""
LOOK_S = 0.5
"""Seconds between two reads of the state of the process."""
STEADY_S = 3.0
"""Seconds for which a state must last before it is reported. A process often waits for less than
this time, which needs no report."""
GAP_S, GAP_S_MAX = 1.0, 300.0
"""Limits, in seconds, of the gap: the minimum time between two reports of problems. The gap begins
with `GAP_S` and doubles with each report, up to `GAP_S_MAX`. After `GAP_S_MAX` without a report, it
is `GAP_S` again."""
WAITING, NOT_READY, INCOMPLETE = "WaitingForCertificate", "NotReady", "Incomplete"
"""Reasons of the Events that report a problem: no certificate yet, not serving, not complete."""
RECOVERED = "Recovered"
"""Reason of the Event that reports that the pod has no problem any more."""
COMPONENT = "midstreamer"

log = logs.get(__name__)


class Standing(NamedTuple):
    """What is reported about a process: ``reason`` becomes the reason of an Event, and ``why`` its
    message.  Both are empty while all is well."""

    reason: str = ""
    why: str = ""


WELL = Standing()
Look = Callable[[], Standing | None]
"""Function that returns the present state of a process, or None while the process stops.  Nothing
is reported for None."""


class Teller:
    """Reports the state of one pod: in its log, as Events, and in its termination message."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        pod: str,
        uid: str,
        termination: Path = TERMINATION,
        steady_s: float = STEADY_S,
    ) -> None:
        self._api = api
        self._namespace, self._pod, self._uid = namespace, pod, uid
        self._termination = termination
        self._steady_s = steady_s

    async def follow(self, look: Look) -> None:
        """Report problems and their end, until cancelled.

        A state is reported when it has lasted for ``steady_s`` seconds.  A problem also waits until
        the gap after the last report has passed (see `GAP_S`).
        """
        loop = asyncio.get_running_loop()
        since_s, last, reported = loop.time(), WELL, WELL
        gap_s, reported_s = GAP_S, -GAP_S_MAX
        while True:
            now_s = loop.time()
            if (stands := look()) is not None:
                if stands != last:
                    since_s, last = now_s, stands
                is_due = stands == WELL or now_s - reported_s >= gap_s
                if stands != reported and now_s - since_s >= self._steady_s and is_due:
                    if stands != WELL:
                        was_quiet = now_s - reported_s > GAP_S_MAX
                        gap_s = GAP_S if was_quiet else min(2 * gap_s, GAP_S_MAX)
                        reported_s = now_s
                    before, reported = reported, stands
                    await self.tell(stands, before)
            await asyncio.sleep(LOOK_S)

    async def tell(self, stands: Standing, before: Standing = WELL) -> None:
        """Report a state in the log, as an Event, and in the termination message.

        If the state is `WELL`, report that the problem ``before`` has ended.  The termination
        message is cleared for `WELL` and for the reason `INCOMPLETE`.  If the Event cannot be
        written, log a warning.
        """
        if stands == WELL:
            stands = Standing(RECOVERED, f"no longer: {before.why}")
            log.info("pod.recovered", detail=before.why)
            self._at_the_end("")
        else:
            known = "certificate.waiting" if stands.reason == WAITING else "pod.not_well"
            log.warning(known, reason=stands.reason, detail=stands.why)
            self._at_the_end("" if stands.reason == INCOMPLETE else stands.why)
        try:
            answer = await self._api.ask(
                "POST", pod_events.path(self._namespace), self._event(stands)
            )
            answer.checked((200, 201, 409))
        except MidstreamerError as error:
            log.warning("pod.event_not_written", detail=error.message)

    def _event(self, stands: Standing) -> dict[str, object]:
        now_s = time.time()
        about = f"{self._uid} {stands.reason} {stands.why} {now_s:.0f}"
        return pod_events.written(
            pod_events.Pod(self._namespace, self._pod, self._uid),
            about=f"told-{hashlib.sha256(about.encode()).hexdigest()[:16]}",
            reason=stands.reason,
            message=stands.why,
            component=COMPONENT,
            now_s=now_s,
            is_warning=stands.reason != RECOVERED,
        )

    def _at_the_end(self, message: str) -> None:
        with suppress(OSError):  # outside a pod the file does not exist
            if self._termination.exists():
                self._termination.write_text(shortened(message, TERMINATION_CHARACTERS_MAX))


@asynccontextmanager
async def told(teller: Teller | None, look: Look) -> AsyncIterator[None]:
    """Report the state of a process while the context is open.  If ``teller`` is None, report
    nothing."""
    if teller is None:
        yield
        return
    task = asyncio.create_task(teller.follow(look), name="cluster.pod_reports")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
