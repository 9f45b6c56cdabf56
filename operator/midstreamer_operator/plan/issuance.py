"""What to do about one signing request: an ordered chain of checks, and an order of steps.

A requester writes what he wants to be called.  The API server writes who he is: the service
account and the pod that his token is bound to.  A request is approved when both agree, the service
account may be of the kind asked for, the usages are those of the kind, and the pod is there.

    pending ──agrees──▶ Approve ──▶ approved, no certificate ──agrees──▶ Sign ──▶ Done
       └──does not──▶ Deny                  └──does not, as when somebody else approved──▶ Fail

Nothing is remembered between two looks: what is to be done follows from what is there.  So it does
not matter who did the step before, or whether that is who died after it.  The steps of a decision
are done in the order of `STEPS`.  A certificate is in the ledger before anybody has it.
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

from midstreamer.cluster import naming
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, quoted
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import chain
from midstreamer_operator.plan.reasons import Reason
from midstreamer_operator.resources.pods import Pod
from midstreamer_operator.resources.requests import APPROVED, DENIED, FAILED, SigningRequest

LIFE_S = 86_400.0
LIVE_MAX = 512


@dataclass(frozen=True)
class Policy:
    """Who may be called what in one installation."""

    trust_domain: str
    namespace: str
    release: str
    kinds: Mapping[str, Kind]
    """The kind that the pods of each service account are."""
    host_names: Mapping[Kind, Collection[str]]
    """The DNS names that certificates of a kind may carry besides; none for most."""
    life_s: float = LIFE_S
    live_max: int = LIVE_MAX
    """Certificates of one identity that may be valid at once."""

    @property
    def signer(self) -> str:
        """The signer of members."""
        return naming.signer(self.namespace, self.release)

    @property
    def client_signer(self) -> str:
        """The signer of clients, whose requests are ours as well: `plan.clients`."""
        return naming.client_signer(self.namespace, self.release)

    @property
    def signers(self) -> tuple[str, ...]:
        """Every signer whose requests are ours."""
        return (self.signer, self.client_signer)


@dataclass(frozen=True)
class Ignore:
    """It is another signer's."""


@dataclass(frozen=True)
class Done:
    """It has been answered."""


@dataclass(frozen=True)
class Approve:
    """Everything agrees."""

    identity: Identity


@dataclass(frozen=True)
class Sign:
    """It was approved, and everything agrees still."""

    identity: Identity
    host_names: tuple[str, ...]
    life_s: float


@dataclass(frozen=True)
class Deny:
    """Something does not agree."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Fail:
    """It was approved, but something does not agree: it will not be signed."""

    reason: Reason
    message: str


Decision: TypeAlias = Ignore | Done | Approve | Sign | Deny | Fail


class Step(StrEnum):
    """Something that is done by one call to the API server."""

    TELL = "tell"
    """Write an Event about the requester's pod; written once, however often."""
    DENY = "deny"
    FAIL = "fail"
    APPROVE = "approve"
    RECORD = "record"
    """Make a certificate, and write it into the ledger; read it there if one is written."""
    HAND_OVER = "hand_over"
    """Put the certificate of the ledger into the request."""


STEPS: Mapping[type[Decision], tuple[Step, ...]] = {
    Ignore: (),
    Done: (),
    Approve: (Step.APPROVE,),
    Sign: (Step.RECORD, Step.HAND_OVER),
    # The Event comes first: after the denial nobody looks at the request again.  One that cannot be
    # written is logged, and keeps no denial from being written.
    Deny: (Step.TELL, Step.DENY),
    Fail: (Step.TELL, Step.FAIL),
}
"""What each decision does, in this order."""


def decide(request: SigningRequest, pod: Pod | None, policy: Policy) -> Decision:
    """What to do next; ``pod`` is the one of our namespace that the requester's token names."""
    if request.signer != policy.signer:
        return Ignore()
    return judged(Case(request, policy, pod), CHECKS)


def judged(case: CaseT, checks: Iterable[Callable[[CaseT], Objection | None]]) -> Decision:
    """What to do next about a request of ours, if these checks are the ones for it."""
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
    """The decision, unless its identity has ``live`` certificates already and that is enough."""
    if not isinstance(decision, Approve | Sign) or live < policy.live_max:
        return decision
    message = (
        f"{decision.identity.uri} has {live} valid certificates, and may have {policy.live_max}"
        " (operator.live_max); one ends in time, a pod that is deleted comes back as another, and"
        " whoever asks so often should be looked at"
    )
    denied = Fail if request.has(APPROVED) else Deny
    return denied(Reason.TOO_MANY, message)


def is_settled(request: SigningRequest) -> bool:
    """Whether nothing is to be done about it any more, whoever's it is."""
    return request.has_certificate or request.has(DENIED) or request.has(FAILED)


# --- the checks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Everything that a check may look at."""

    request: SigningRequest
    policy: Policy
    pod: Pod | None = None

    @functools.cached_property
    def made(self) -> x509.CertificateSigningRequest:
        """What was made with the key."""
        return x509.load_pem_x509_csr(self.request.pem)

    @functools.cached_property
    def names(self) -> tuple[x509.GeneralName, ...]:
        """All names asked for."""
        return tuple(chain.extension(self.made, x509.SubjectAlternativeName) or ())

    @property
    def uris(self) -> list[str]:
        """The URIs among them."""
        return [n.value for n in self.names if isinstance(n, x509.UniformResourceIdentifier)]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The DNS names among them."""
        return tuple(name.value for name in self.names if isinstance(name, x509.DNSName))

    @functools.cached_property
    def named(self) -> Identity:
        """The identity asked for."""
        return identity.parse(self.uris[0])

    @property
    def parts(self) -> tuple[str, str, str]:
        """Namespace, pod and uid in it."""
        namespace, pod, uid = self.named.id.split("/")
        return namespace, pod, uid

    @property
    def kind(self) -> Kind | None:
        """The kind that the requester's service account may be."""
        return self.policy.kinds.get(self.request.account[1])


Objection: TypeAlias = tuple[Reason, str]
Check: TypeAlias = Callable[[Case], Objection | None]
CaseT = TypeVar("CaseT", bound=Case)


def comes_from_a_pod(case: Case) -> Objection | None:
    """The API server says that a service account asks, with the token of a pod."""
    request, (namespace, _) = case.request, case.request.account
    if not namespace or f"system:serviceaccounts:{namespace}" not in request.groups:
        return Reason.NOT_A_POD, f"{quoted(request.username)} asks, which is no service account"
    if not request.pod_name or not request.pod_uid:
        return Reason.NOT_A_POD, f"the token of {request.username} is bound to no pod"
    return None


def comes_from_our_namespace(case: Case) -> Objection | None:
    """Pods of other namespaces are not ours to certify."""
    namespace, account = case.request.account
    if namespace == case.policy.namespace:
        return None
    return (
        Reason.ANOTHER_NAMESPACE,
        f"pod {namespace}/{case.request.pod_name} (service account {account}) asks, but"
        f" {case.policy.signer} certifies pods of namespace {case.policy.namespace} alone",
    )


def is_readable(case: Case) -> Objection | None:
    """It can be read, and whoever made it has the key."""
    if not case.made.is_signature_valid:
        return Reason.UNREADABLE, "the request is not signed by its own key"
    return None


def is_strong(case: Case) -> Objection | None:
    """Nobody guesses the key, or makes another request with this signature."""
    weak = chain.weakness_of_request(case.made)
    return (Reason.WEAK_KEY, f"the request is too weak: {weak}") if weak else None


def asks_for_names_alone(case: Case) -> Objection | None:
    """What else is asked for would not be granted, so whoever asks is mistaken."""
    others = [
        each.oid.dotted_string
        for each in case.made.extensions
        if each.oid != ExtensionOID.SUBJECT_ALTERNATIVE_NAME
    ]
    if not others:
        return None
    return (
        Reason.MORE_THAN_NAMES,
        f"the request asks for the extensions {', '.join(others[:8])}; it may ask for a subject"
        " alternative name alone",
    )


def asks_for_one_name(case: Case) -> Objection | None:
    """One URI, and beside it nothing but DNS names, which are judged below."""
    others = len(case.names) - len(case.uris) - len(case.hosts)
    if len(case.uris) == 1 and not others:
        return None
    return (
        Reason.NOT_ONE_NAME,
        f"the request asks for {len(case.uris)} URIs and {others} names of other kinds; it must"
        " ask for one URI",
    )


def asks_for_a_name_of_ours(case: Case) -> Objection | None:
    """``spiffe://<trust domain>/<kind>/<namespace>/<pod>/<uid>``."""
    wanted = f"spiffe://{case.policy.trust_domain}/<kind>/<namespace>/<pod>/<uid>"
    try:
        named = case.named
    except BadInput as error:
        return Reason.FOREIGN_NAME, f"{error.message}; names here are {wanted}"
    if named.trust_domain == case.policy.trust_domain and named.id.count("/") == 2:
        return None
    return Reason.FOREIGN_NAME, f"{quoted(named.uri)} is not {wanted}"


def names_our_namespace(case: Case) -> Objection | None:
    """A pod of ours does not get a name of another namespace."""
    namespace = case.parts[0]
    if namespace == case.policy.namespace:
        return None
    return (
        Reason.ANOTHER_NAMESPACE,
        f"{case.named.uri} is of namespace {namespace}, the pod is of {case.policy.namespace}",
    )


def has_a_known_account(case: Case) -> Objection | None:
    """Service accounts that are not in the table get nothing."""
    if case.kind is not None:
        return None
    known = ", ".join(sorted(case.policy.kinds))
    account = case.request.account[1]
    return Reason.UNKNOWN_ACCOUNT, f"service account {account} is of no kind; known: {known}"


def is_of_its_kind(case: Case) -> Objection | None:
    """The service account says what a pod may be."""
    if case.named.kind is case.kind:
        return None
    return (
        Reason.WRONG_KIND,
        f"the request is for the kind {case.named.kind}, but pods of service account"
        f" {case.request.account[1]} are of the kind {case.kind}",
    )


def names_its_own_pod(case: Case) -> Objection | None:
    """The name is that of the pod to which the token is bound."""
    _, pod, uid = case.parts
    if (pod, uid) == (case.request.pod_name, case.request.pod_uid):
        return None
    return (
        Reason.ANOTHER_POD,
        f"the request is for pod {pod} ({uid}), but pod {case.request.pod_name}"
        f" ({case.request.pod_uid}) asks",
    )


def asks_for_its_host_names(case: Case) -> Objection | None:
    """Only what others dial by a DNS name carries one."""
    allowed = case.policy.host_names.get(case.named.kind, ())
    wrong = sorted(set(case.hosts) - set(allowed))
    if not wrong:
        return None
    what = ", ".join(sorted(allowed)) or "none"
    return (
        Reason.WRONG_HOST_NAME,
        f"the request asks for {', '.join(map(quoted, wrong[:4]))}; the kind {case.named.kind} may"
        f" have: {what}",
    )


def asks_for_its_usages(case: Case) -> Objection | None:
    """No more and no less than the kind does."""
    wanted = naming.usages(case.named.kind)
    if sorted(case.request.usages) == sorted(wanted):
        return None
    return (
        Reason.WRONG_USAGE,
        f"the request is for {', '.join(case.request.usages) or 'no usage'}; the kind"
        f" {case.named.kind} has {', '.join(wanted)}",
    )


def has_its_pod(case: Case) -> Objection | None:
    """The pod that asked is still there: nobody is left to use a certificate of one that is not."""
    request, pod = case.request, case.pod
    told = f"pod {request.pod_name} ({request.pod_uid})"
    if pod is None:
        return Reason.POD_GONE, f"{told} does not exist any more"
    if pod.uid != request.pod_uid:
        return Reason.POD_GONE, f"{told} was replaced by another of this name ({pod.uid})"
    if pod.is_going:
        return Reason.POD_GONE, f"{told} is being deleted, or has ended"
    if pod.account != request.account[1]:
        return (
            Reason.NOT_A_POD,
            f"{told} runs as {pod.account}, but {request.account[1]} asks with its token",
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
"""What `cryptography` raises for a request, or a part of it, that it cannot read."""
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
    """What the first check that objects says; None when none does."""
    try:
        return next((found for check in checks if (found := check(case))), None)
    except UNREADABLE as error:
        return Reason.UNREADABLE, f"the request cannot be read: {type(error).__name__}"
