"""What a pod waits for, told where people look: in its log, in Events, and in its end.

A pod that is not ready has its reason elsewhere: the operator is away or denies the certificate,
the database is not reached, sync does not answer.  `/readyz` says it while somebody asks, and a
probe that fails says only its status.  `kubectl describe pod` shows Events, and the termination
message of a container that was ended while it waited.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from midstreamer.cluster import events
from midstreamer.cluster.api import Api
from midstreamer.domain.errors import MidstreamerError, shortened
from midstreamer.telemetry import logs

TERMINATION = Path("/dev/termination-log")
"""Where the kubelet finds what a container says at its end."""
TERMINATION_CHARACTERS_MAX = 2000
"""The kubelet takes 4,096 bytes of it."""
LOOK_S = 0.5
STEADY_S = 3.0
"""What has stood for so long is told; most waits are shorter."""
GAP_S, GAP_S_MAX = 1.0, 300.0
"""Seconds from one bad news to the next: doubled by each, and short again after a long quiet."""
WAITING, NOT_READY, INCOMPLETE = "WaitingForCertificate", "NotReady", "Incomplete"
RECOVERED = "Recovered"
"""Reasons of Events, the last one when nothing is in the way any more."""
COMPONENT = "midstreamer"

log = logs.get(__name__)


class Standing(NamedTuple):
    """How a process stands: an Event's reason and why; both are empty while all is well."""

    reason: str = ""
    why: str = ""


WELL = Standing()
Look = Callable[[], Standing | None]
"""How a process stands now; None while it leaves, of which nothing is told."""


class Teller:
    """Tells what one pod waits for."""

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
        """Tell each standing that lasts, until cancelled."""
        loop = asyncio.get_running_loop()
        since_s, last, told = loop.time(), WELL, WELL
        gap_s, spoke_s = GAP_S, -GAP_S_MAX
        while True:
            now_s = loop.time()
            if (stands := look()) is not None:
                if stands != last:
                    since_s, last = now_s, stands
                may_speak = stands == WELL or now_s - spoke_s >= gap_s
                if stands != told and now_s - since_s >= self._steady_s and may_speak:
                    if stands != WELL:
                        gap_s = GAP_S if now_s - spoke_s > GAP_S_MAX else min(2 * gap_s, GAP_S_MAX)
                        spoke_s = now_s
                    before, told = told, stands
                    await self.tell(stands, before)
            await asyncio.sleep(LOOK_S)

    async def tell(self, stands: Standing, before: Standing = WELL) -> None:
        """Tell one standing everywhere; what cannot be written is logged."""
        if stands == WELL:
            stands = Standing(RECOVERED, f"no longer: {before.why}")
            log.info("pod.recovered", detail=before.why)
            self._at_the_end("")
        else:
            known = "certificate.waiting" if stands.reason == WAITING else "pod.not_well"
            log.warning(known, reason=stands.reason, detail=stands.why)
            self._at_the_end("" if stands.reason == INCOMPLETE else stands.why)
        try:
            answer = await self._api.ask("POST", events.path(self._namespace), self._event(stands))
            answer.checked((200, 201, 409))
        except MidstreamerError as error:
            log.warning("pod.event_not_written", detail=error.message)

    def _event(self, stands: Standing) -> dict[str, object]:
        now_s = time.time()
        about = f"{self._uid} {stands.reason} {stands.why} {now_s:.0f}"
        return events.written(
            namespace=self._namespace,
            pod=self._pod,
            uid=self._uid,
            about=f"told-{hashlib.sha256(about.encode()).hexdigest()[:16]}",
            reason=stands.reason,
            message=stands.why,
            component=COMPONENT,
            now_s=now_s,
            is_warning=stands.reason != RECOVERED,
        )

    def _at_the_end(self, message: str) -> None:
        with suppress(OSError):  # elsewhere than in a pod there is no such file
            if self._termination.exists():
                self._termination.write_text(shortened(message, TERMINATION_CHARACTERS_MAX))


@asynccontextmanager
async def told(teller: Teller | None, look: Look) -> AsyncIterator[None]:
    """Tell how a process stands, meanwhile; without a teller nothing is told."""
    if teller is None:
        yield
        return
    task = asyncio.create_task(teller.follow(look), name="cluster.pod_reports")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
