"""What a pod waits for, told where people look: in its log, in an Event, and in its end.

A pod that has no certificate cannot serve, and the reason lies elsewhere: the operator is away, or
denies the request.  `/readyz` says it while somebody asks.  `kubectl describe pod` shows Events,
and the termination message of a container that was ended while it waited.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from midstreamer.cluster import events
from midstreamer.cluster.api import Api
from midstreamer.domain.errors import MidstreamerError, shortened
from midstreamer.domain.identity import Identity
from midstreamer.security.credentials import CredentialSource, Renewed
from midstreamer.telemetry import logs

TERMINATION = Path("/dev/termination-log")
"""Where the kubelet finds what a container says at its end."""
TERMINATION_CHARACTERS_MAX = 2000
"""The kubelet takes 4,096 bytes of it."""
LOOK_S = 0.5
STEADY_S = 3.0
"""A reason that has stood for so long is told; most waits are shorter."""
REASON = "WaitingForCertificate"
COMPONENT = "midstreamer"

log = logs.get(__name__)


class Teller:
    """Tells what one pod waits for."""

    def __init__(
        self, api: Api, me: Identity, *, termination: Path = TERMINATION, steady_s: float = STEADY_S
    ) -> None:
        """``me`` is ``<kind>/<namespace>/<pod>/<uid>``."""
        self._api = api
        self._me = me
        self._termination = termination
        self._steady_s = steady_s

    async def follow(self, source: Renewed) -> None:
        """Tell each reason that lasts, once, until there is a certificate; then take it back."""
        loop = asyncio.get_running_loop()
        told: set[str] = set()
        since_s, last = loop.time(), ""
        while waiting := source.waiting:
            if waiting != last:
                since_s, last = loop.time(), waiting
            elif waiting not in told and loop.time() - since_s >= self._steady_s:
                told.add(waiting)
                await self.tell(waiting)
            await asyncio.sleep(LOOK_S)
        if told:
            self._at_the_end("")

    async def tell(self, why: str) -> None:
        """Tell one reason everywhere; what cannot be written is logged."""
        message = f"waiting for a certificate: {why}"
        log.warning("certificate.waiting", identity=self._me.name, detail=why)
        self._at_the_end(message)
        try:
            answer = await self._api.ask("POST", events.path(self._namespace), self._event(message))
            answer.checked((200, 201, 409))
        except MidstreamerError as error:
            log.warning("certificate.event_not_written", detail=error.message)

    @property
    def _namespace(self) -> str:
        return self._me.id.partition("/")[0]

    def _event(self, message: str) -> dict[str, object]:
        namespace, pod, uid = self._me.id.split("/")
        return events.warning(
            namespace=namespace,
            pod=pod,
            uid=uid,
            about=f"waiting-{hashlib.sha256(f'{uid} {message}'.encode()).hexdigest()[:16]}",
            reason=REASON,
            message=message,
            component=COMPONENT,
            now_s=time.time(),
        )

    def _at_the_end(self, message: str) -> None:
        with suppress(OSError):  # elsewhere than in a pod there is no such file
            if self._termination.exists():
                self._termination.write_text(shortened(message, TERMINATION_CHARACTERS_MAX))


@asynccontextmanager
async def told(teller: Teller | None, source: CredentialSource) -> AsyncIterator[None]:
    """Tell what ``source`` waits for, meanwhile; without a teller nothing is told."""
    if teller is None or not isinstance(source, Renewed):
        yield
        return
    task = asyncio.create_task(teller.follow(source), name="cluster.telling")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
