"""The configuration files of the components, as text.  Pure.

What Kubernetes reads as YAML is written as JSON, which YAML includes.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from tests.cluster import names, preflight

PROBE_IMAGE = "localhost/midstreamer-probe:1"
KUBECONFIG_CONTEXT = "midstreamer-test"
DNS_PORT = 53
DNS_READY_PORT = 10181


@dataclass(frozen=True)
class Timing:
    """How soon a lost node is noticed, in seconds."""

    grace_s: int  # silence after which a node is NotReady
    toleration_s: int  # how long pods stay on such a node


# With one node there is nowhere to go: Kubernetes' own values.
PATIENT = Timing(grace_s=50, toleration_s=300)
QUICK = Timing(grace_s=8, toleration_s=2)


def timing(nodes: int) -> Timing:
    """What suits a cluster that starts with so many nodes."""
    return QUICK if nodes > 1 else PATIENT


@dataclass(frozen=True)
class Smaller:
    """A node that offers less than the machine: what is kept back from its pods."""

    cpu_millis: int = 0
    memory_mb: int = 0


def containerd(node: names.Node) -> str:
    """containerd's config.toml."""
    return f"""\
version = 2
root = "{node.directory}/containerd"
state = "{node.directory}/run/containerd"
[grpc]
  address = "{node.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PROBE_IMAGE}"
  # Below the state directory, not among everybody's: taking down then knows whose they are.
  netns_mounts_under_state_dir = true
  # A lower score cannot be set without CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{preflight.CNI_DIRECTORY}"
    conf_dir = "{node.directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        # Else runc keeps its state among everybody's in /run/containerd.
        Root = "{node.directory}/run/runc"
"""


def cni(node: names.Node) -> str:
    """The network of a node's pods: a bridge.

    Nothing is masqueraded, so that a pod's address arrives as it is on another node.
    """
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{node.directory}/run/cni",
            "ranges": [[{"subnet": node.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return _json({"cniVersion": "0.4.0", "name": node.network, "plugins": [bridge, ports]})


def kubelet(node: names.Node, timing: Timing, smaller: Smaller) -> str:
    """The kubelet's configuration."""
    pki = node.cluster.state / "pki"
    reserved = {}
    if smaller.cpu_millis:
        reserved["cpu"] = f"{smaller.cpu_millis}m"
    if smaller.memory_mb:
        reserved["memory"] = f"{smaller.memory_mb}Mi"
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node.address,
            "healthzBindAddress": "127.0.0.1",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki}/{node.name}-kubelet.crt",
            "tlsPrivateKeyFile": f"{pki}/{node.name}-kubelet.key",
            "clusterDomain": "cluster.local",
            "clusterDNS": [names.DNS_ADDRESS],
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{node.cluster.label}/{node.name}",
            "podLogsDir": f"{node.directory}/pod-logs",
            "failSwapOn": False,
            "failCgroupV1": False,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
            "systemReserved": reserved,
            "containerRuntimeEndpoint": f"unix://{node.socket}",
            # Without them a pod with such a volume stays ContainerCreating.
            "featureGates": {"ClusterTrustBundle": True, "ClusterTrustBundleProjection": True},
            "syncFrequency": "2s",  # how late a mounted ConfigMap or Secret may be
            "nodeLeaseDurationSeconds": min(40, timing.grace_s // 2),
            "nodeStatusUpdateFrequency": "2s" if timing.grace_s < 40 else "10s",
            "volumePluginDir": f"{node.directory}/kubelet/plugins",
            "resolvConf": f"{node.cluster.state}/resolv.conf",
        }
    )


def proxy(node: names.Node) -> str:
    """kube-proxy's configuration."""
    return _json(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": names.PODS,
            "hostnameOverride": node.name,
            "bindAddress": node.address,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "clientConnection": {"kubeconfig": f"{node.cluster.state}/proxy.conf"},
            # These belong to the machine, not to the namespace.
            "conntrack": {
                "maxPerCore": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }
    )


def corefile(cluster: names.Cluster) -> str:
    """CoreDNS's configuration: answers come from memory, so nothing is cached."""
    return f"""\
.:{DNS_PORT} {{
  bind {names.API_ADDRESS}
  errors
  ready 127.0.0.1:{DNS_READY_PORT}
  kubernetes cluster.local {{
    kubeconfig {cluster.state}/coredns.conf {KUBECONFIG_CONTEXT}
    pods insecure
    ttl 1
  }}
  loadbalance round_robin
}}
"""


def kubeconfig(server: str, *, authority: bytes, certificate: bytes, key: bytes) -> str:
    """A kubeconfig for one user of the cluster behind `server`."""
    name = KUBECONFIG_CONTEXT
    user = {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    where = {
        "server": server,
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    return _json(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": where}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )


def dns_objects() -> str:
    """What Kubernetes must know of CoreDNS: the usual Service, and the rights to read names."""
    rights = [
        {
            "apiGroups": [""],
            "resources": ["endpoints", "services", "pods", "namespaces"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        },
    ]
    access, role = "rbac.authorization.k8s.io", "midstreamer-test-dns"
    user = {"apiGroup": access, "kind": "User", "name": "midstreamer-test-dns"}
    reference = {"apiGroup": access, "kind": "ClusterRole", "name": role}
    protocols = (("dns", "UDP"), ("dns-tcp", "TCP"))
    outer = [
        {"name": name, "port": 53, "targetPort": DNS_PORT, "protocol": protocol}
        for name, protocol in protocols
    ]
    inner = [{"name": name, "port": DNS_PORT, "protocol": protocol} for name, protocol in protocols]
    slice_labels = {"kubernetes.io/service-name": "kube-dns"}
    return _objects(
        _object(f"{access}/v1", "ClusterRole", role, rules=rights),
        _object(f"{access}/v1", "ClusterRoleBinding", role, roleRef=reference, subjects=[user]),
        _object(
            "v1",
            "Service",
            "kube-dns",
            namespace="kube-system",
            spec={"clusterIP": names.DNS_ADDRESS, "ports": outer},
        ),
        _object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "kube-dns-node",
            namespace="kube-system",
            labels=slice_labels,
            addressType="IPv4",
            ports=inner,
            endpoints=[{"addresses": [names.API_ADDRESS]}],
        ),
    )


def _object(
    version: str,
    kind: str,
    name: str,
    *,
    namespace: str = "",
    labels: dict[str, str] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _objects(*items: dict[str, Any]) -> str:
    return _json({"apiVersion": "v1", "kind": "List", "items": list(items)})


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1)
