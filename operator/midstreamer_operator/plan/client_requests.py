"""Decide about one signing request for a client.  Two kinds of name may be requested:

    client/<namespace>/<pod>/<uid>   by this pod with its own token, if its namespace is labelled
    client/<name>                    by anyone whose role has the verb `use` for this identity

The operator does not read pods of other namespaces, so it needs no right to read them.  The API
server checks the pod: it accepts a token bound to a pod only while the pod exists, and writes the
pod's name and uid into the request.  This proves that the pod made the request, but not that the
pod still exists.  A certificate for a deleted pod is useless, because its key was in the pod's
memory only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from midstreamer.cluster import kubernetes_names
from midstreamer.domain.errors import BadInput, quoted
from midstreamer.domain.identity import Kind
from midstreamer_operator.plan import issuance
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.plan.issuance import Case, Decision, Objection, Policy
from midstreamer_operator.resources.signing_requests import SigningRequest

POD_PARTS = 3


@dataclass(frozen=True)
class OfNamespace:
    """The question whether this namespace is labelled as one whose pods may be clients."""

    namespace: str


@dataclass(frozen=True)
class OfAccess:
    """The question whether the requester may `use` the client identity of this name."""

    name: str


Question: TypeAlias = OfNamespace | OfAccess
"""The one question that the API server may have to answer before a decision about a client."""


@dataclass(frozen=True)
class ClientCase(Case):
    """Everything that a check of a client's signing request may look at."""

    answer: bool = False
    """The API server's answer to the `Question` about this request; false when none was asked."""

    @property
    def is_of_pod(self) -> bool:
        """Whether the requested name is that of a pod, and not ``client/<name>``."""
        return self.named.id.count("/") == POD_PARTS - 1


def question(request: SigningRequest, policy: Policy) -> Question | None:
    """Return what to ask the API server before `decide`.

    Return None when the decision does not depend on an answer.
    """
    if request.signer != policy.client_signer or issuance.is_settled(request):
        return None
    case = ClientCase(request, policy)
    if issuance.objected(case, ALONE):
        return None
    return OfNamespace(case.parts[0]) if case.is_of_pod else OfAccess(case.named.id)


def decide(request: SigningRequest, answer: bool, policy: Policy) -> Decision:
    """Return what to do next about a signing request for a client.

    ``answer`` is the API server's answer to `question`; without a question it has no effect.
    """
    if request.signer != policy.client_signer:
        return issuance.Ignore()
    return issuance.judged(ClientCase(request, policy, answer=answer), (*ALONE, *ASKED))


# --- the checks -----------------------------------------------------------------------------------


def asks_for_a_clients_name(case: ClientCase) -> Objection | None:
    """Return an objection unless the name has one of the two forms of a client's name.

    These are ``client/<namespace>/<pod>/<uid>`` and ``client/<name>``.  The name must also be of
    this installation's trust domain.
    """
    base = f"spiffe://{case.policy.trust_domain}/client"
    wanted = f"{base}/<namespace>/<pod>/<uid> of a pod, or {base}/<name>"
    try:
        named = case.named
    except BadInput as error:
        return Reason.FOREIGN_NAME, f"{error.message}; names here have the form {wanted}"
    if named.trust_domain == case.policy.trust_domain and (case.is_of_pod or "/" not in named.id):
        return None
    return Reason.FOREIGN_NAME, f"{quoted(named.uri)} does not have the form {wanted}"


def is_a_client(case: ClientCase) -> Objection | None:
    """Return an objection unless the name is of the kind `client`."""
    if case.named.kind is Kind.CLIENT:
        return None
    return (
        Reason.WRONG_KIND,
        f"the request is for the kind {case.named.kind}, but {case.policy.client_signer} certifies"
        f" only the kind {Kind.CLIENT}",
    )


def is_asked_by_a_pod(case: ClientCase) -> Objection | None:
    """Return an objection when the name is that of a pod, but the requester is not a pod."""
    return issuance.comes_from_a_pod(case) if case.is_of_pod else None


def names_its_own_namespace(case: ClientCase) -> Objection | None:
    """Return an objection when the name has another namespace than the requesting pod."""
    namespace = case.request.account[0]
    if not case.is_of_pod or case.parts[0] == namespace:
        return None
    return (
        Reason.ANOTHER_NAMESPACE,
        f"{case.named.uri} names namespace {case.parts[0]}, but the pod is in {namespace}; request"
        " the name of the pod itself",
    )


def is_its_own_pod(case: ClientCase) -> Objection | None:
    """Return an objection when the name is that of another pod than the requester."""
    return issuance.names_its_own_pod(case) if case.is_of_pod else None


def has_a_labelled_namespace(case: ClientCase) -> Objection | None:
    """Return an objection when the namespace is not labelled as one whose pods may be clients."""
    if not case.is_of_pod or case.answer:
        return None
    label = kubernetes_names.client_label(case.policy.namespace, case.policy.release)
    return (
        Reason.NAMESPACE_NOT_LABELLED,
        f"namespace {case.parts[0]} is not labelled as one whose pods may be clients here; to let"
        f" its pods in: kubectl label namespace {case.parts[0]} {label}={kubernetes_names.CLIENT}",
    )


def may_use_the_name(case: ClientCase) -> Objection | None:
    """Return an objection when no role lets the requester `use` this client identity."""
    if case.is_of_pod or case.answer:
        return None
    resource = f"{kubernetes_names.CLIENT_IDENTITIES}.{kubernetes_names.GROUP}"
    return (
        Reason.NOT_ALLOWED,
        f"{quoted(case.request.username)} may not be {case.named.name}: a role in namespace"
        f" {case.policy.namespace} must allow the verb {kubernetes_names.USE} on {resource} named"
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
"""Checks that need nothing but the signing request, as the API server recorded it."""
ASKED: tuple[ClientCheck, ...] = (has_a_labelled_namespace, may_use_the_name)
"""Checks that need the API server's answer to the `Question`."""
