"""What PostgreSQL keeps of a password: RFC 5803's line, from which nobody gets the password."""

from __future__ import annotations

import base64
import hashlib
import hmac

ITERATIONS = 4096
"""As PostgreSQL itself takes."""
SALT_BYTES = 16


def verifier(password: str, salt: bytes) -> str:
    """The line for ``ALTER ROLE … PASSWORD``; ``salt`` is random.

    For passwords of printable ASCII: others would have to be normalised first (RFC 4013).
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    parts = (salt, stored, _keyed(salted, b"Server Key"))
    shown = [base64.b64encode(part).decode() for part in parts]
    return f"SCRAM-SHA-256${ITERATIONS}:{shown[0]}${shown[1]}:{shown[2]}"


def _keyed(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()
