"""The certificate authority of an installation: created once, afterwards only read.

The authority's key is in one Secret.  The operator creates that Secret and never replaces it.  So
when two replicas start at the same time, one replica creates the Secret, and the other replica
reads the same key from it.
"""

from __future__ import annotations

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Api
from midstreamer.security.authority import Authority, establish
from midstreamer.telemetry import logs
from midstreamer_operator import api_reads, api_writes
from midstreamer_operator.api_writes import Overtaken
from midstreamer_operator.plan.issuance import Policy
from midstreamer_operator.resources import authorities

log = logs.get(__name__)


async def opened(api: Api, policy: Policy, now_s: float) -> Authority:
    """Return the authority, and create it if its Secret is missing.

    Raise ConfigError when the Secret does not hold an authority of this trust domain.
    """
    namespace, name = policy.namespace, authorities.secret_name(policy.release)
    found = await api_reads.secret(api, namespace, name)
    if found is None:
        manifest = authorities.secret(policy.release, establish(policy.trust_domain, now_s=now_s))
        found = await api_writes.create(api, f"/api/v1/namespaces/{namespace}/secrets", manifest)
        if found is not None:
            log.info("authority.made", place=f"{namespace}/{name}")
        else:
            found = await api_reads.secret(api, namespace, name)
    if found is None:
        raise Overtaken(f"Secret {namespace}/{name} existed a moment ago and has been deleted")
    return authorities.authority(found, policy.trust_domain)


async def published(api: Api, policy: Policy, authority: Authority) -> None:
    """Add the authority's certificate to the bundle of trusted authorities, a ConfigMap.

    Certificates of other authorities stay in the bundle.
    """
    namespace, name = policy.namespace, kubernetes_names.bundle(policy.release)
    found = await api_reads.config_map(api, namespace, name)
    if found is None:
        manifest = authorities.bundle(policy.release, [authority.certificate])
        found = await api_writes.create(api, f"/api/v1/namespaces/{namespace}/configmaps", manifest)
        if found is not None:
            return
        found = await api_reads.config_map(api, namespace, name)
    if found is None:
        raise Overtaken(f"ConfigMap {namespace}/{name} existed a moment ago and has been deleted")
    trusted = authorities.trusted(found)
    if authority.certificate not in trusted:
        data = authorities.bundle(policy.release, [*trusted, authority.certificate])["data"]
        found = {**found, "data": {**(found.get("data") or {}), **data}}
        await api_writes.replace(api, kubernetes_names.config_map(namespace, name), found)
