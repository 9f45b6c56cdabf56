"""Decide about one signing request by an ordered chain of checks.

The requester writes the identity that it wants into the request.  The API server adds who the
requester is: its service account, and the pod that its token is bound to.  The operator approves
the request when every check in `CHECKS` passes, so that identity and requester agree.  An approved
request can fail a check, because somebody else may have approved it.

    pending ──passes──▶ Approve ──▶ approved, no certificate ──passes──▶ Sign ──▶ Done
       └──fails a check──▶ Deny             └──fails a check──▶ Fail

A decision depends on the present state of the objects only, and nothing is remembered.  So a new
leader can continue after a replica that died between two steps.  The steps of a decision are done
in the order of `STEPS`.  A certificate is in the ledger before the requester receives it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from midstreamer.cluster import kubernetes_names
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, quoted
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import certificate_chain
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.resources.pod_certificate_fields import Pod
from midstreamer_operator.resources.signing_requests import APPROVED, DENIED, FAILED, SigningRequest

LIFE_S = 86_400.0
"""Seconds that a certificate is valid, by default."""
LIVE_MAX = 512
"""Maximum number of valid certificates of one identity, by default."""


@dataclass(frozen=True)
class Policy:
    """The rules by which the operator of one installation issues certificates."""

    trust_domain: str
    namespace: str
    release: str
    kinds: Mapping[str, Kind]
    """Kind of the pods of each service account, by name of the service account."""
    host_names: Mapping[Kind, Collection[str]]
    """DNS names that certificates of each kind may carry besides the URI; most kinds have none."""
    life_s: float = LIFE_S
    live_max: int = LIVE_MAX
    """Maximum number of certificates of one identity that are valid at once."""

    @property
    def signer(self) -> str:
        """Name of the signer that certifies the members: pods of the installation."""
        return kubernetes_names.signer(self.namespace, self.release)

    @property
    def client_signer(self) -> str:
        """Name of the signer of clients; `plan.client_requests` decides about its requests."""
        return kubernetes_names.client_signer(self.namespace, self.release)

    @property
    def signers(self) -> tuple[str, ...]:
        """Names of the signers whose requests this operator handles."""
        return (self.signer, self.client_signer)


@dataclass(frozen=True)
class Ignore:
    """The request is for another signer; do nothing."""


@dataclass(frozen=True)
class Done:
    """The request has its certificate, or was denied, or failed; do nothing."""


@dataclass(frozen=True)
class Approve:
    """Approve the request: every check passes."""

    identity: Identity


@dataclass(frozen=True)
class Sign:
    """Sign the request: it is approved, and every check still passes."""

    identity: Identity
    host_names: tuple[str, ...]
    life_s: float


@dataclass(frozen=True)
class Deny:
    """Deny the request, because it fails a check."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Fail:
    """Mark the request as failed, not signed: it is approved, but it fails a check."""

    reason: Reason
    message: str


Decision: TypeAlias = Ignore | Done | Approve | Sign | Deny | Fail


class Step(StrEnum):
    """One step of a decision: a write to the API server."""

    TELL = "tell"
    """Write an Event about the requester's pod; a repeated write changes nothing."""
    DENY = "deny"
    FAIL = "fail"
    APPROVE = "approve"
    RECORD = "record"
    """Make a certificate and write it into the ledger, or read it if the ledger has it."""
    HAND_OVER = "hand_over"
    """Write the certificate from the ledger into the request."""


STEPS: Mapping[type[Decision], tuple[Step, ...]] = {
    Ignore: (),
    Done: (),
    Approve: (Step.APPROVE,),
    Sign: (Step.RECORD, Step.HAND_OVER),
    # The Event comes first, because a denied request is not reconciled again.  A failure to write
    # the Event is only logged, and the denial is written all the same.
    Deny: (Step.TELL, Step.DENY),
    Fail: (Step.TELL, Step.FAIL),
}
"""The steps of each decision, in order."""


def decide(request: SigningRequest, pod: Pod | None, policy: Policy) -> Decision:
    """Return what to do next about a request for the members' signer.

    ``pod`` is the pod that the requester's token is bound to, None if it does not exist.
    """
    if request.signer != policy.signer:
        return Ignore()
    return judged(Case(request, policy, pod), CHECKS)


def judged(case: CaseT, checks: Iterable[Callable[[CaseT], Objection | None]]) -> Decision:
    """Apply the checks to a request for one of our signers, and return what to do next."""
    request, policy = case.request, case.policy
    if is_settled(request):
        return Done()
    is_approved = request.has(APPROVED)
    if objection := objected(case, checks):
        return Fail(*objection) if is_approved else Deny(*objection)
    if not is_approved:
        return Approve(case.named)
    return Sign(case.named, case.hosts, min(policy.life_s, request.expires_s or policy.life_s))


def bounded(request: SigningRequest, decision: Decision, live: int, policy: Policy) -> Decision:
    """Return the decision, unless its identity already has the maximum of valid certificates.

    In that case return Deny, or return Fail if the request is approved already.  ``live`` is the
    number of valid certificates of the identity.
    """
    if not isinstance(decision, Approve | Sign) or live < policy.live_max:
        return decision
    message = (
        f"{decision.identity.uri} has {live} valid certificates, and may have {policy.live_max}"
        " (operator.live_max); wait until one expires, or delete the pod, because its replacement"
        " has a new identity; and find out why it requests certificates so often"
    )
    denied = Fail if request.has(APPROVED) else Deny
    return denied(Reason.TOO_MANY, message)


def is_settled(request: SigningRequest) -> bool:
    """Return whether the request has its final answer: a certificate, a denial or a failure."""
    return request.has_certificate or request.has(DENIED) or request.has(FAILED)


# --- the checks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Everything that a check of a signing request may look at."""

    request: SigningRequest
    policy: Policy
    pod: Pod | None = None

    @functools.cached_property
    def made(self) -> x509.CertificateSigningRequest:
        """The parsed PKCS #10 request; raise ValueError when it cannot be parsed."""
        return x509.load_pem_x509_csr(self.request.pem)

    @functools.cached_property
    def names(self) -> tuple[x509.GeneralName, ...]:
        """All names in the subject alternative name of the request."""
        return tuple(certificate_chain.extension(self.made, x509.SubjectAlternativeName) or ())

    @property
    def uris(self) -> list[str]:
        """The URIs among the requested names."""
        return [n.value for n in self.names if isinstance(n, x509.UniformResourceIdentifier)]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The DNS names among the requested names."""
        return tuple(name.value for name in self.names if isinstance(name, x509.DNSName))

    @functools.cached_property
    def named(self) -> Identity:
        """The requested identity: the first URI."""
        return identity.parse(self.uris[0])

    @property
    def parts(self) -> tuple[str, str, str]:
        """Namespace, pod name and pod uid in the requested identity."""
        namespace, pod, uid = self.named.id.split("/")
        return namespace, pod, uid

    @property
    def kind(self) -> Kind | None:
        """The kind to which the requester's service account is mapped, None when there is none."""
        return self.policy.kinds.get(self.request.account[1])


Objection: TypeAlias = tuple[Reason, str]
Check: TypeAlias = Callable[[Case], Objection | None]
CaseT = TypeVar("CaseT", bound=Case)


def comes_from_a_pod(case: Case) -> Objection | None:
    """Return an objection unless the requester is a service account with the token of a pod."""
    request, (namespace, _) = case.request, case.request.account
    if not namespace or f"system:serviceaccounts:{namespace}" not in request.groups:
        return Reason.NOT_A_POD, f"the requester {quoted(request.username)} is no service account"
    if not request.pod_name or not request.pod_uid:
        return Reason.NOT_A_POD, f"the token of {request.username} is not bound to a pod"
    return None


def comes_from_our_namespace(case: Case) -> Objection | None:
    """Return an objection when the pod is of another namespace than the installation."""
    namespace, account = case.request.account
    if namespace == case.policy.namespace:
        return None
    return (
        Reason.ANOTHER_NAMESPACE,
        f"the requester is pod {namespace}/{case.request.pod_name} (service account {account}), but"
        f" {case.policy.signer} certifies only pods of namespace {case.policy.namespace}",
    )


def is_readable(case: Case) -> Objection | None:
    """Return an objection when the request is not signed by its own key."""
    if not case.made.is_signature_valid:
        return Reason.UNREADABLE, "the request is not signed by its own key"
    return None


def is_strong(case: Case) -> Objection | None:
    """Return an objection when the key or the signature of the request is too weak."""
    weak = certificate_chain.weakness_of_request(case.made)
    return (Reason.WEAK_KEY, f"the request is too weak: {weak}") if weak else None


def asks_for_names_alone(case: Case) -> Objection | None:
    """Return an objection when the request has extensions besides a subject alternative name."""
    others = [
        each.oid.dotted_string
        for each in case.made.extensions
        if each.oid != ExtensionOID.SUBJECT_ALTERNATIVE_NAME
    ]
    if not others:
        return None
    return (
        Reason.MORE_THAN_NAMES,
        f"the request has the extensions {', '.join(others[:8])}; the only extension it may have is"
        " a subject alternative name",
    )


def asks_for_one_name(case: Case) -> Objection | None:
    """Return an objection unless the names are one URI and any number of DNS names."""
    others = len(case.names) - len(case.uris) - len(case.hosts)
    if len(case.uris) == 1 and not others:
        return None
    return (
        Reason.NOT_ONE_NAME,
        f"the request asks for {len(case.uris)} URIs and {others} names of other kinds; it must"
        " ask for one URI",
    )


def asks_for_a_name_of_ours(case: Case) -> Objection | None:
    """Return an objection unless the URI is an identity of a pod in this trust domain."""
    wanted = f"spiffe://{case.policy.trust_domain}/<kind>/<namespace>/<pod>/<uid>"
    try:
        named = case.named
    except BadInput as error:
        return Reason.FOREIGN_NAME, f"{error.message}; names here have the form {wanted}"
    if named.trust_domain == case.policy.trust_domain and named.id.count("/") == 2:
        return None
    return Reason.FOREIGN_NAME, f"{quoted(named.uri)} does not have the form {wanted}"


def names_our_namespace(case: Case) -> Objection | None:
    """Return an objection when the requested name has another namespace than the installation."""
    namespace = case.parts[0]
    if namespace == case.policy.namespace:
        return None
    return (
        Reason.ANOTHER_NAMESPACE,
        f"{case.named.uri} names namespace {namespace}, the pod is in {case.policy.namespace}",
    )


def has_a_known_account(case: Case) -> Objection | None:
    """Return an objection when the requester's service account is mapped to no kind."""
    if case.kind is not None:
        return None
    known = ", ".join(sorted(case.policy.kinds))
    account = case.request.account[1]
    return Reason.UNKNOWN_ACCOUNT, f"service account {account} has no kind; with one: {known}"


def is_of_its_kind(case: Case) -> Objection | None:
    """Return an objection unless the requested kind is that of the requester's service account."""
    if case.named.kind is case.kind:
        return None
    return (
        Reason.WRONG_KIND,
        f"the request is for the kind {case.named.kind}, but pods of service account"
        f" {case.request.account[1]} have the kind {case.kind}",
    )


def names_its_own_pod(case: Case) -> Objection | None:
    """Return an objection unless the requested identity belongs to the pod that requests it."""
    _, pod, uid = case.parts
    if (pod, uid) == (case.request.pod_name, case.request.pod_uid):
        return None
    return (
        Reason.ANOTHER_POD,
        f"the request is for pod {pod} ({uid}), but the requester is pod {case.request.pod_name}"
        f" ({case.request.pod_uid})",
    )


def asks_for_its_host_names(case: Case) -> Objection | None:
    """Return an objection when the request has DNS names that its kind may not have."""
    allowed = case.policy.host_names.get(case.named.kind, ())
    wrong = sorted(set(case.hosts) - set(allowed))
    if not wrong:
        return None
    what = ", ".join(sorted(allowed)) or "none"
    return (
        Reason.WRONG_HOST_NAME,
        f"the request has the DNS names {', '.join(map(quoted, wrong[:4]))}; the kind"
        f" {case.named.kind} may have: {what}",
    )


def asks_for_its_usages(case: Case) -> Objection | None:
    """Return an objection unless the requested key usages are exactly those of the kind."""
    wanted = kubernetes_names.usages(case.named.kind)
    if sorted(case.request.usages) == sorted(wanted):
        return None
    return (
        Reason.WRONG_USAGE,
        f"the request has the usages {', '.join(case.request.usages) or 'none'}; the kind"
        f" {case.named.kind} must have {', '.join(wanted)}",
    )


def has_its_pod(case: Case) -> Objection | None:
    """Return an objection when the requesting pod is gone: nobody could use its certificate."""
    request, pod = case.request, case.pod
    name = f"pod {request.pod_name} ({request.pod_uid})"
    if pod is None:
        return Reason.POD_GONE, f"{name} does not exist any more"
    if pod.uid != request.pod_uid:
        return Reason.POD_GONE, f"{name} was replaced by another pod of this name ({pod.uid})"
    if pod.is_going:
        return Reason.POD_GONE, f"{name} is being deleted, or has ended"
    if pod.account != request.account[1]:
        return (
            Reason.NOT_A_POD,
            f"{name} runs as {pod.account}, but its token is of {request.account[1]}",
        )
    return None


UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Exceptions that `cryptography` raises when it cannot read a request or a part of a request."""
CHECKS: tuple[Check, ...] = (
    comes_from_a_pod,
    comes_from_our_namespace,
    is_readable,
    is_strong,
    asks_for_names_alone,
    asks_for_one_name,
    asks_for_a_name_of_ours,
    names_our_namespace,
    has_a_known_account,
    is_of_its_kind,
    names_its_own_pod,
    asks_for_its_host_names,
    asks_for_its_usages,
    has_its_pod,
)


def objected(
    case: CaseT, checks: Iterable[Callable[[CaseT], Objection | None]]
) -> Objection | None:
    """Return the objection of the first check that objects, None when none does."""
    try:
        return next((found for check in checks if (found := check(case))), None)
    except UNREADABLE as error:
        return Reason.UNREADABLE, f"the request cannot be read: {type(error).__name__}"
