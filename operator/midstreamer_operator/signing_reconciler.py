"""Reconciliation of signing requests: read a request, decide, do the steps, until no step is left.

Reconciliation is level-based: it depends on the present state of the request, not on the event that
started it.  Two passes over one request, in one process or in two, do no harm: the API server
accepts only one of two conflicting writes, and the ledger has one entry for each request.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from midstreamer.cluster.api import Api, Object
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.runtime import tasks
from midstreamer.security.authority import Authority
from midstreamer.telemetry import logs, metrics
from midstreamer_operator import api_reads, api_writes
from midstreamer_operator.api_writes import Overtaken
from midstreamer_operator.plan import client_requests, issuance
from midstreamer_operator.plan.certificate_counts import Holders
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.plan.issuance import STEPS, Decision, Deny, Fail, Policy, Sign, Step
from midstreamer_operator.resources import certificate_ledger, signing_requests
from midstreamer_operator.resources.certificate_ledger import Entry
from midstreamer_operator.resources.signing_requests import SigningRequest

PASSES_MAX = 8
"""Maximum number of times that one reconciliation reads a request, decides and acts. If the request
is still not settled after the last time, `Overtaken` is raised."""
ATTEMPTS_MAX = 6
"""Maximum number of attempts to reconcile a request after an event; then the next sweep handles the
request."""
PASSES_AT_ONCE = 8
"""An event about a signing request causes a reconciliation of the request.  At most this number of
such reconciliations run at the same time; further ones wait.  Without a limit, a thousand pods that
start together would open a thousand connections to the API server."""
SETTLED_MAX = 256
"""Maximum number of recently reconciled requests that are remembered, to skip later events about
them."""
PRUNE_S = 600.0
"""Seconds between two passes that delete old entries of the ledger."""
KEPT_S = 3600.0
"""Seconds that an entry stays in the ledger after its certificate has expired."""

log = logs.get(__name__)


@dataclass
class Signer:
    """The reconciler of one installation's signing requests, for members and for clients."""

    api: Api
    policy: Policy
    authority: Authority
    own: tuple[str, str]
    """Name and uid of the operator's own pod."""
    now: Callable[[], float]
    may_act: Callable[[], bool] = lambda: True
    """Return whether this replica leads; called before each step."""
    _places: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(PASSES_AT_ONCE), repr=False
    )
    _settled: deque[str] = field(default_factory=lambda: deque(maxlen=SETTLED_MAX), repr=False)
    """Uids of requests that were reconciled lately; events about them are skipped."""
    _holders: Holders = field(default_factory=Holders, repr=False)
    _pruned_s: float = 0.0

    async def reconcile(self, given: Object) -> Decision:
        """Decide and act on one request until no step is left; return the last decision.

        Raise Overtaken when somebody else has changed the request. The caller need not retry then,
        because the change causes an event of its own. After any other error it should retry.
        """
        decision: Decision = issuance.Ignore()
        for _ in range(PASSES_MAX):
            request = signing_requests.read(given)
            decision = await self._decided(request)
            if not STEPS[type(decision)]:
                return decision
            given = await self._done(decision, given)
        raise Overtaken(
            f"signing request {request.name} is not settled after {PASSES_MAX} passes;"
            " the next sweep continues"
        )

    async def handle(self, given: Object) -> None:
        """Reconcile the request that an event is about, with up to `ATTEMPTS_MAX` attempts.

        When all attempts fail, the next sweep handles the request.  The operator's own writes cause
        events too.  They arrive after the request is reconciled, and are skipped.
        """
        uid = given["metadata"].get("uid")
        if uid in self._settled:
            return
        for failures in range(1, ATTEMPTS_MAX + 1):
            try:
                async with self._places:
                    await self.reconcile(given)
                self._settled.append(uid)
            except Overtaken as error:
                log.debug("request.overtaken", detail=str(error))
            except MidstreamerError as error:
                log.warning("request.not_answered", failures=failures, detail=error.message)
                await asyncio.sleep(tasks.pause(failures))
                continue
            return

    async def sweep(self) -> int:
        """Reconcile every open request; return how many requests were open.

        Then prune the ledger, if the last pruning was at least `PRUNE_S` seconds ago.  When one
        request fails, the others are still reconciled; the last error is raised at the end.
        """
        trouble: MidstreamerError | None = None
        count = failed = 0
        for signer in self.policy.signers:
            async for given in api_reads.requests(self.api, signer):
                try:
                    if issuance.is_settled(signing_requests.read(given)):
                        continue
                    count += 1
                    await self.reconcile(given)
                except Overtaken as error:
                    log.debug("request.overtaken", detail=str(error))
                except MidstreamerError as error:
                    trouble = error
                    failed += 1
        metrics.SIGNING_REQUESTS_WAITING.set(failed)
        if self.now() - self._pruned_s >= PRUNE_S:
            await self._prune()
            self._pruned_s = self.now()
        if trouble is not None:
            raise trouble
        return count

    async def _decided(self, request: SigningRequest) -> Decision:
        """Return what to do next; refuse what exceeds an identity's limit of valid certificates.

        When the decision is to sign, the new certificate is counted at once, before it exists.
        """
        decision = await self._agreed(request)
        if not isinstance(decision, issuance.Approve | Sign):
            return decision
        uri, now_s = decision.identity.uri, self.now()
        if not self._holders.knows(uri):
            self._holders.learn(uri, await self._recorded(uri))
        live = self._holders.live(uri, now_s, but=request.uid)
        decision = issuance.bounded(request, decision, live, self.policy)
        if isinstance(decision, Sign):
            self._holders.sign(uri, request.uid, now_s + decision.life_s)
        return decision

    async def _recorded(self, uri: str) -> dict[str, float]:
        """Return when each certificate of an identity expires, as read from the ledger.

        The keys are the uids of the signing requests, the values are seconds since 1970.
        """
        namespace, release = self.policy.namespace, self.policy.release
        ends_by_request = {}
        async for given in api_reads.entries(self.api, namespace, release, uri):
            try:
                ends_by_request[certificate_ledger.request_uid(release, given)] = (
                    certificate_ledger.read(given).ends_s
                )
            except BadInput as error:
                log.warning("ledger.unreadable", detail=error.message)
        return ends_by_request

    async def _agreed(self, request: SigningRequest) -> Decision:
        """Return what `plan.issuance` or `plan.client_requests` decides about a request.

        The limit of valid certificates for one identity is not checked here.
        """
        if request.signer == self.policy.client_signer:
            asked = client_requests.question(request, self.policy)
            answer = False
            if asked is not None:
                answer = await api_reads.answer(self.api, request, asked, self.policy)
            return client_requests.decide(request, answer, self.policy)
        is_open = request.signer == self.policy.signer and not issuance.is_settled(request)
        is_ours = request.account[0] == self.policy.namespace and request.pod_name
        pod = None
        if is_open and is_ours:
            pod = await api_reads.pod(self.api, self.policy.namespace, request.pod_name)
        return issuance.decide(request, pod, self.policy)

    async def _done(self, decision: Decision, given: Object) -> Object:
        """Do the steps of a decision in order; return the request as it is afterwards."""
        entry: Entry | None = None
        request = signing_requests.read(given)
        for step in STEPS[type(decision)]:
            if not self.may_act():
                raise Overtaken("this replica is no longer the leader")
            match step, decision:
                case Step.APPROVE, issuance.Approve(holder):
                    given = await api_writes.approve(self.api, given, f"{holder.uri} agrees")
                case Step.RECORD, Sign():
                    entry = await api_writes.record(
                        self.api, request, decision, self.policy, self.authority, self.now()
                    )
                case Step.HAND_OVER, Sign():
                    assert entry is not None  # noqa: S101 - RECORD comes before HAND_OVER
                    given = await api_writes.hand_over(self.api, given, entry)
                case Step.TELL, Deny(reason, message) | Fail(reason, message):
                    await self._told(request, reason, message)
                case Step.DENY, Deny(reason, message):
                    given = await api_writes.deny(self.api, given, reason, message)
                case Step.FAIL, Fail(reason, message):
                    given = await api_writes.fail(self.api, given, reason, message)
                case _:
                    raise AssertionError(f"{step} is no step of {decision}")
        _tell(request.name, decision, entry)
        return given

    async def _told(self, request: SigningRequest, reason: Reason, message: str) -> None:
        """Write an Event about a denial; log a failure to write it, and raise nothing."""
        policy, own, now_s = self.policy, self.own, self.now()
        try:
            await api_writes.tell(
                self.api, request, policy, own, reason=reason, message=message, now_s=now_s
            )
        except MidstreamerError as error:
            log.warning("event.not_written", request=request.name, detail=error.message)

    async def _prune(self) -> None:
        """Delete the ledger entries of certificates that expired more than `KEPT_S` seconds ago.

        Also set the metric `LIVE_CERTIFICATES`: for each kind of identity, how many certificates
        are still valid.
        """
        self._holders.forget(self.now())
        live: Counter[str] = Counter()
        namespace, release = self.policy.namespace, self.policy.release
        async for given in api_reads.entries(self.api, namespace, release):
            try:
                entry = certificate_ledger.read(given)
                holder = identity.parse(entry.id)
            except BadInput as error:
                log.warning("ledger.unreadable", detail=error.message)
                continue
            ends_s = entry.ends_s
            if ends_s > self.now():
                live[holder.kind] += 1
            if ends_s + KEPT_S < self.now() and self.may_act():
                await api_writes.forget(self.api, namespace, given["metadata"]["name"])
        for kind in Kind:
            metrics.LIVE_CERTIFICATES.labels(kind).set(live[kind])


def _tell(name: str, decision: Decision, entry: Entry | None) -> None:
    """Log a decision that was carried out, and count it in the metrics."""
    match decision:
        case issuance.Approve(holder):
            log.info("request.approved", request=name, identity=holder.name)
        case Sign(holder):
            serial = entry.serial if entry else ""
            log.info("certificate.issued", request=name, identity=holder.name, serial=serial)
            metrics.SIGNING_REQUESTS.labels(result="signed").inc()
            # The metric counts valid certificates; `_prune` later subtracts the expired ones.
            metrics.LIVE_CERTIFICATES.labels(holder.kind).inc()
        case Deny(reason, message) | Fail(reason, message):
            log.warning("request.denied", request=name, reason=str(reason), detail=message)
            metrics.SIGNING_REQUESTS.labels(result=str(reason)).inc()
