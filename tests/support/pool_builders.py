"""Builders for agent pools: a pod template, a pool and its Deployment."""

from __future__ import annotations

from typing import Any

import msgspec

from midstreamer.cluster.api import Object
from midstreamer_operator.resources import deployments
from midstreamer_operator.resources.agentpools import Pool, Spec, Status
from midstreamer_operator.resources.deployments import Deployment
from tests.support.operator_builders import RELEASE

NAME = f"{RELEASE}-agent"


def a_template(revision: str = "r1", image: str = "agent:1") -> Object:
    env = [{"name": "MIDSTREAMER_AGENT__ENGINE", "value": "auto"}, {"name": "POD_NAME"}]
    container = {"name": "agent", "image": image, "env": env, "resources": {"limits": {"cpu": 1}}}
    return {
        "metadata": {"name": NAME, "annotations": {deployments.REVISION: revision}},
        "template": {
            "metadata": {"labels": {"app": "midstreamer"}, "annotations": {"settings": "s1"}},
            "spec": {
                "containers": [{"name": "beside"}, container],
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"key": "all"}],
                "topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname"}],
            },
        },
    }


def a_pool(*, status: Status = Status(), generation: int = 3, **spec: Any) -> Pool:  # noqa: B008
    wanted = {"fleet": RELEASE, "replicas": 2, "templateRevision": "r1", **spec}
    return Pool(NAME, "pool-uid", generation, msgspec.convert(wanted, Spec), status)


def a_deployment(**changes: Any) -> Deployment:
    deployment = Deployment(
        name=NAME,
        owner_uid="pool-uid",
        owner=f"AgentPool {NAME}",
        generation=5,
        observed_generation=5,
        wanted=2,
        replicas=2,
        updated=2,
        ready=2,
    )
    return msgspec.structs.replace(deployment, **changes)
