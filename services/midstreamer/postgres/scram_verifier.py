"""Computes the SCRAM-SHA-256 verifier of a password (RFC 5803), which PostgreSQL stores.

The password cannot be computed from its verifier.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

ITERATIONS = 4096
"""Rounds of PBKDF2; PostgreSQL's own default."""
SALT_BYTES = 16
"""Length of the random salt; PostgreSQL's own default."""


def verifier(password: str, salt: bytes) -> str:
    """Return the verifier of a password, as text for ``ALTER ROLE … PASSWORD``.

    ``salt`` must be random.  The password must be printable ASCII, because other passwords would
    have to be normalised first (RFC 4013).
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    parts = (salt, stored, _keyed(salted, b"Server Key"))
    shown = [base64.b64encode(part).decode() for part in parts]
    return f"SCRAM-SHA-256${ITERATIONS}:{shown[0]}${shown[1]}:{shown[2]}"


def _keyed(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()
