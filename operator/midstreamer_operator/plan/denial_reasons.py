"""Reasons why a signing request is denied, shared by conditions, Events and metrics."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reason why a signing request is denied or fails, spelled as Kubernetes wants reasons."""

    NOT_A_POD = "NotAPod"
    """The requester is no service account, or its token is not bound to a pod."""
    ANOTHER_NAMESPACE = "AnotherNamespace"
    """The namespace is wrong. For a member, the pod and the requested name must have the namespace
    of the installation. For a client, the requested name must have the namespace of its pod."""
    UNREADABLE = "Unreadable"
    """The request is not PKCS #10 in PEM, or is not signed by its own key."""
    WEAK_KEY = "WeakKey"
    """The key or the signature of the request is too weak."""
    MORE_THAN_NAMES = "MoreThanNames"
    """The request has X.509 extensions other than a subject alternative name."""
    NOT_ONE_NAME = "NotOneName"
    """The request does not have exactly one URI, or has names other than URIs and DNS names."""
    FOREIGN_NAME = "ForeignName"
    """The requested URI is not an identity of this trust domain, or is of the wrong form."""
    UNKNOWN_ACCOUNT = "UnknownAccount"
    """The service account of the requester is mapped to no kind."""
    WRONG_KIND = "WrongKind"
    """The requested name is of a kind that the requester may not have."""
    ANOTHER_POD = "AnotherPod"
    """The requested name is that of another pod, or of an earlier pod of the same name."""
    WRONG_HOST_NAME = "WrongHostName"
    """The request has a DNS name that pods of the requester's kind may not have."""
    WRONG_USAGE = "WrongUsage"
    """The requested key usages are not those of the requested kind."""
    NAMESPACE_NOT_LABELLED = "NamespaceNotLabelled"
    """The namespace of the pod is not labelled as one whose pods may be clients."""
    NOT_ALLOWED = "NotAllowed"
    """No role lets the requester `use` the client identity of this name."""
    TOO_MANY = "TooManyCertificates"
    """The identity has reached its limit of valid certificates."""
    POD_GONE = "PodGone"
    """The requesting pod does not exist any more, is being deleted, or was replaced by another."""
