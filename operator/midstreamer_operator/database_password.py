"""The password of the installation's own database: created once, never replaced.

When the Secret of the password exists already, it stays as it is: somebody else may have written
the Secret, and a database may already use its password.
"""

from __future__ import annotations

import secrets

from midstreamer.cluster.api import Api
from midstreamer.telemetry import logs
from midstreamer_operator import api_reads, api_writes
from midstreamer_operator.plan.issuance import Policy
from midstreamer_operator.resources import passwords

PASSWORD_BYTES = 32
"""Random bytes in a new password, before they are encoded as text."""

log = logs.get(__name__)


async def provided(api: Api, policy: Policy) -> str:
    """Create the Secret of the password unless it exists.

    Return what is wrong with a Secret that exists already; an empty string when nothing is wrong.
    """
    namespace, name = policy.namespace, passwords.secret_name(policy.release)
    found = await api_reads.secret(api, namespace, name)
    if found is not None:
        return passwords.problem(found)
    manifest = passwords.secret(policy.release, secrets.token_urlsafe(PASSWORD_BYTES))
    if (
        await api_writes.create(api, f"/api/v1/namespaces/{namespace}/secrets", manifest)
        is not None
    ):
        log.info("password.made", name=f"{namespace}/{name}")
    return ""
