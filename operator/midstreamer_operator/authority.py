"""The authority of an installation: made once, by whichever replica comes first, then read.

Its key is in one Secret.  It is created and never replaced, so that of two replicas that begin at
the same time one creates it and the other one reads what the first wrote.
"""

from __future__ import annotations

from midstreamer.cluster import naming
from midstreamer.cluster.api import Api
from midstreamer.security.authority import Authority, establish
from midstreamer.telemetry import logs
from midstreamer_operator import act, observe
from midstreamer_operator.act import Overtaken
from midstreamer_operator.plan.issuance import Policy
from midstreamer_operator.resources import authorities

log = logs.get(__name__)


async def opened(api: Api, policy: Policy, now_s: float) -> Authority:
    """The authority, made if there is none; ConfigError when the Secret holds something else."""
    namespace, name = policy.namespace, authorities.secret_name(policy.release)
    found = await observe.secret(api, namespace, name)
    if found is None:
        made = authorities.secret(policy.release, establish(policy.trust_domain, now_s=now_s))
        found = await act.create(api, f"/api/v1/namespaces/{namespace}/secrets", made)
        if found is not None:
            log.info("authority.made", place=f"{namespace}/{name}")
        else:
            found = await observe.secret(api, namespace, name)
    if found is None:
        raise Overtaken(f"Secret {namespace}/{name} was there, and is gone")
    return authorities.authority(found, policy.trust_domain)


async def published(api: Api, policy: Policy, authority: Authority) -> None:
    """See to it that the bundle names the authority; others that are in it stay."""
    namespace, name = policy.namespace, naming.bundle(policy.release)
    found = await observe.config_map(api, namespace, name)
    if found is None:
        made = authorities.bundle(policy.release, [authority.certificate])
        found = await act.create(api, f"/api/v1/namespaces/{namespace}/configmaps", made)
        if found is not None:
            return
        found = await observe.config_map(api, namespace, name)
    if found is None:
        raise Overtaken(f"ConfigMap {namespace}/{name} was there, and is gone")
    trusted = authorities.trusted(found)
    if authority.certificate not in trusted:
        data = authorities.bundle(policy.release, [*trusted, authority.certificate])["data"]
        found = {**found, "data": {**(found.get("data") or {}), **data}}
        await act.replace(api, naming.config_map(namespace, name), found)
