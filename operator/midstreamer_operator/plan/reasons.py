"""Why a signing request is denied: the words that conditions, events and metrics share."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word for each way to be denied; the API server wants them in this spelling."""

    NOT_A_POD = "NotAPod"
    """Whoever asks is no service account, or his token is bound to no pod."""
    ANOTHER_NAMESPACE = "AnotherNamespace"
    """The requester, or the name asked for, is of another namespace."""
    UNREADABLE = "Unreadable"
    """The request is no PKCS #10 in PEM, or not signed by its own key."""
    WEAK_KEY = "WeakKey"
    """Key or signature of the request are too weak."""
    MORE_THAN_NAMES = "MoreThanNames"
    """The request asks for more than names: to be an authority, for usages, for constraints."""
    NOT_ONE_NAME = "NotOneName"
    """It asks for no URI, for several, or for names of other kinds besides."""
    FOREIGN_NAME = "ForeignName"
    """The URI is no identity of this trust domain."""
    UNKNOWN_ACCOUNT = "UnknownAccount"
    """The service account belongs to no kind."""
    WRONG_KIND = "WrongKind"
    """The name is of another kind than the service account may be."""
    ANOTHER_POD = "AnotherPod"
    """The name is that of another pod, or of an earlier pod of this name."""
    WRONG_HOST_NAME = "WrongHostName"
    """It asks for a host name that its kind may not have."""
    WRONG_USAGE = "WrongUsage"
    """The usages asked for are not those of its kind."""
    NAMESPACE_NOT_LABELLED = "NamespaceNotLabelled"
    """The pod's namespace is not labelled as one whose pods may be clients."""
    NOT_ALLOWED = "NotAllowed"
    """Nobody has allowed the requester to use a client identity of this name."""
    TOO_MANY = "TooManyCertificates"
    """As many certificates of this identity are valid as one may have."""
    POD_GONE = "PodGone"
    """The pod does not exist any more, or is being deleted, or is another."""
