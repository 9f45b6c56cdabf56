"""The SubjectAccessReview that asks whether a requester may `use` a client identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer.cluster import kubernetes_names
from midstreamer_operator.resources.object_reading import converted
from midstreamer_operator.resources.signing_requests import SigningRequest

PATH = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class _Status(msgspec.Struct, frozen=True):
    allowed: bool = False
    denied: bool = False


class _Object(msgspec.Struct, frozen=True):
    status: _Status = _Status()


def made(request: SigningRequest, namespace: str, name: str) -> dict[str, Any]:
    """Return a SubjectAccessReview: may the requester `use` the client identity ``name``?"""
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": request.username,
            "uid": request.user_uid,
            "groups": list(request.groups),
            "extra": {key: list(values) for key, values in request.extra.items()},
            "resourceAttributes": {
                "namespace": namespace,
                "verb": kubernetes_names.USE,
                "group": kubernetes_names.GROUP,
                "resource": kubernetes_names.CLIENT_IDENTITIES,
                "name": name,
            },
        },
    }


def is_allowed(given: Mapping[str, Any]) -> bool:
    """Return whether an answered SubjectAccessReview allows the access.

    Raise BadInput when ``given`` is no SubjectAccessReview.
    """
    status = converted(given, _Object, "review of access").status
    return status.allowed and not status.denied
