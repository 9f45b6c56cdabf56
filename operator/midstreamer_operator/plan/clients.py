"""What to do about one signing request for a client: a pod of a labelled namespace, or a name.

    client/<namespace>/<pod>/<uid>   the pod whose token asks, if its namespace is labelled
    client/<name>                    whoever may `use` the client identity of this name

Pods of other namespaces are not read, so that the operator needs no right to.  The API server has
done so: it takes a token that is bound to a pod only while that pod is there, and writes its name
and uid into the request.  So it is proven that the pod asked, and not that it is there still.
What is made for one that is gone is of use to nobody: the key was in its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from midstreamer.cluster import naming
from midstreamer.domain.errors import BadInput, quoted
from midstreamer.domain.identity import Kind
from midstreamer_operator.plan import issuance
from midstreamer_operator.plan.issuance import Case, Decision, Objection, Policy
from midstreamer_operator.plan.reasons import Reason
from midstreamer_operator.resources.requests import SigningRequest

POD_PARTS = 3


@dataclass(frozen=True)
class OfNamespace:
    """Is this namespace labelled as one with clients?"""

    namespace: str


@dataclass(frozen=True)
class OfAccess:
    """May the requester use the client identity of this name?"""

    name: str


Question: TypeAlias = OfNamespace | OfAccess
"""What must be asked of the API server before a decision: at most one thing."""


@dataclass(frozen=True)
class ClientCase(Case):
    """Everything that a check may look at."""

    answer: bool = False
    """The answer to the question."""

    @property
    def is_of_pod(self) -> bool:
        """Whether the name asked for is that of a pod."""
        return self.named.id.count("/") == POD_PARTS - 1


def question(request: SigningRequest, policy: Policy) -> Question | None:
    """What to ask before `decide`; None when the decision does not depend on it."""
    if request.signer != policy.client_signer or issuance.is_settled(request):
        return None
    case = ClientCase(request, policy)
    if issuance.objected(case, ALONE):
        return None
    return OfNamespace(case.parts[0]) if case.is_of_pod else OfAccess(case.named.id)


def decide(request: SigningRequest, answer: bool, policy: Policy) -> Decision:
    """What to do next, with the answer to the `question`; without a question it does not count."""
    if request.signer != policy.client_signer:
        return issuance.Ignore()
    return issuance.judged(ClientCase(request, policy, answer=answer), (*ALONE, *ASKED))


# --- the checks -----------------------------------------------------------------------------------


def asks_for_a_clients_name(case: ClientCase) -> Objection | None:
    """``client/<namespace>/<pod>/<uid>`` or ``client/<name>``, of this trust domain."""
    base = f"spiffe://{case.policy.trust_domain}/client"
    wanted = f"{base}/<namespace>/<pod>/<uid> of a pod, or {base}/<name>"
    try:
        named = case.named
    except BadInput as error:
        return Reason.FOREIGN_NAME, f"{error.message}; names here are {wanted}"
    if named.trust_domain == case.policy.trust_domain and (case.is_of_pod or "/" not in named.id):
        return None
    return Reason.FOREIGN_NAME, f"{quoted(named.uri)} is not {wanted}"


def is_a_client(case: ClientCase) -> Objection | None:
    """This signer certifies nothing else."""
    if case.named.kind is Kind.CLIENT:
        return None
    return (
        Reason.WRONG_KIND,
        f"the request is for the kind {case.named.kind}, but {case.policy.client_signer} certifies"
        f" the kind {Kind.CLIENT} alone",
    )


def is_asked_by_a_pod(case: ClientCase) -> Objection | None:
    """The name of a pod is for a pod."""
    return issuance.comes_from_a_pod(case) if case.is_of_pod else None


def names_its_own_namespace(case: ClientCase) -> Objection | None:
    """A pod is of the namespace of its service account."""
    namespace = case.request.account[0]
    if not case.is_of_pod or case.parts[0] == namespace:
        return None
    return (
        Reason.ANOTHER_NAMESPACE,
        f"{case.named.uri} is of namespace {case.parts[0]}, the pod is of {namespace}",
    )


def is_its_own_pod(case: ClientCase) -> Objection | None:
    """The name is that of the pod to which the token is bound."""
    return issuance.names_its_own_pod(case) if case.is_of_pod else None


def has_a_labelled_namespace(case: ClientCase) -> Objection | None:
    """Somebody who may label namespaces has let this one in."""
    if not case.is_of_pod or case.answer:
        return None
    label = naming.client_label(case.policy.namespace, case.policy.release)
    return (
        Reason.NAMESPACE_NOT_LABELLED,
        f"namespace {case.parts[0]} has no clients here: kubectl label namespace {case.parts[0]}"
        f" {label}={naming.CLIENT} lets its pods in",
    )


def may_use_the_name(case: ClientCase) -> Objection | None:
    """Somebody has allowed the requester to be called so."""
    if case.is_of_pod or case.answer:
        return None
    resource = f"{naming.CLIENT_IDENTITIES}.{naming.GROUP}"
    return (
        Reason.NOT_ALLOWED,
        f"{quoted(case.request.username)} may not be {case.named.name}: a role in namespace"
        f" {case.policy.namespace} must allow the verb {naming.USE} on {resource} named"
        f" {case.named.id}",
    )


ClientCheck: TypeAlias = Callable[[ClientCase], Objection | None]
ALONE: tuple[ClientCheck, ...] = (
    issuance.is_readable,
    issuance.is_strong,
    issuance.asks_for_names_alone,
    issuance.asks_for_one_name,
    asks_for_a_clients_name,
    is_a_client,
    is_asked_by_a_pod,
    names_its_own_namespace,
    is_its_own_pod,
    issuance.asks_for_its_host_names,
    issuance.asks_for_its_usages,
)
"""What the request and the API server's words in it decide alone."""
ASKED: tuple[ClientCheck, ...] = (has_a_labelled_namespace, may_use_the_name)
"""What the answer decides."""
