"""The Secret with the password of the database, under the key `password`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

KEY = "password"
CHARACTERS_MIN = 16
"""Shortest password that `midstreamer postgres` accepts."""


def secret_name(release: str) -> str:
    """Return the name of the Secret with the password of an installation's own database."""
    return f"{release}-postgres"


def secret(release: str, password: str) -> dict[str, Any]:
    """Return the Secret that holds a password."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(release)},
        "type": "Opaque",
        "data": {KEY: base64.b64encode(password.encode()).decode()},
    }


def problem(given: Mapping[str, Any]) -> str:
    """Return what is wrong with a Secret of a password, an empty string when nothing is.

    The text does not quote the password.
    """
    named = (given.get("metadata") or {}).get("name")
    try:
        text = base64.b64decode((given.get("data") or {})[KEY], validate=True).decode("ascii")
    except (KeyError, TypeError, ValueError, binascii.Error):
        text = ""
    if len(text.strip()) < CHARACTERS_MIN:
        return (
            f"Secret {named} has no {KEY} of {CHARACTERS_MIN} ASCII characters or more; write one,"
            " or delete the Secret: the operator then makes a new password"
        )
    return ""
