"""The password of the installation's own database: made once, and never replaced.

A Secret of its name that is there already stays as it is: somebody else may have written it, and a
database may use it.
"""

from __future__ import annotations

import secrets

from midstreamer.cluster.api import Api
from midstreamer.telemetry import logs
from midstreamer_operator import act, observe
from midstreamer_operator.plan.issuance import Policy
from midstreamer_operator.resources import passwords

PASSWORD_BYTES = 32

log = logs.get(__name__)


async def provided(api: Api, policy: Policy) -> str:
    """See to it that there is a password; what is wrong with the one there is, empty if nothing."""
    namespace, name = policy.namespace, passwords.secret_name(policy.release)
    found = await observe.secret(api, namespace, name)
    if found is not None:
        return passwords.problem(found)
    made = passwords.secret(policy.release, secrets.token_urlsafe(PASSWORD_BYTES))
    if await act.create(api, f"/api/v1/namespaces/{namespace}/secrets", made) is not None:
        log.info("password.made", name=f"{namespace}/{name}")
    return ""
