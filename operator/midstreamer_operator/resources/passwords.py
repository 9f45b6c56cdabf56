"""The password of the database as a Secret; whoever mounts it reads one key."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

KEY = "password"
CHARACTERS_MIN = 16
"""What `midstreamer postgres` asks for."""


def secret_name(release: str) -> str:
    """The Secret with the password of an installation's own database."""
    return f"{release}-postgres"


def secret(release: str, password: str) -> dict[str, Any]:
    """The Secret of a password."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(release)},
        "type": "Opaque",
        "data": {KEY: base64.b64encode(password.encode()).decode()},
    }


def problem(given: Mapping[str, Any]) -> str:
    """Why no database can use a Secret, without quoting it; empty when one can."""
    named = (given.get("metadata") or {}).get("name")
    try:
        text = base64.b64decode((given.get("data") or {})[KEY], validate=True).decode("ascii")
    except (KeyError, TypeError, ValueError, binascii.Error):
        text = ""
    if len(text.strip()) < CHARACTERS_MIN:
        return (
            f"Secret {named} has no {KEY} of {CHARACTERS_MIN} ASCII characters or more; write one,"
            " or delete the Secret: then it is made again"
        )
    return ""
