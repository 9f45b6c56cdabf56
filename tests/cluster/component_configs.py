"""Make the text of the components' configuration files.  Pure.

Files that Kubernetes reads as YAML are written as JSON, because every JSON file is valid YAML.
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
    """How soon Kubernetes reacts to a lost node, in seconds."""

    grace_s: int  # a node that is silent for so long becomes NotReady
    toleration_s: int  # how long pods stay on a NotReady node


# PATIENT has the defaults of Kubernetes. It is for clusters of one node, which have no other node
# that the pods could move to.
PATIENT = Timing(grace_s=50, toleration_s=300)
QUICK = Timing(grace_s=8, toleration_s=2)


def timing(nodes: int) -> Timing:
    """Return the timing for a cluster that starts with `nodes` nodes."""
    return QUICK if nodes > 1 else PATIENT


@dataclass(frozen=True)
class Smaller:
    """CPU and memory that the kubelet reserves, so that pods get less than the whole machine."""

    cpu_millis: int = 0
    memory_mb: int = 0


def containerd(node: names.Node) -> str:
    """Return the text of containerd's config.toml for a node."""
    return f"""\
version = 2
root = "{node.directory}/containerd"
state = "{node.directory}/run/containerd"
[grpc]
  address = "{node.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PROBE_IMAGE}"
  # Network namespaces below the cluster's state directory are known to belong to the cluster.
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
        # The default, /run/containerd, is shared by all clusters of the machine.
        Root = "{node.directory}/run/runc"
"""


def cni(node: names.Node) -> str:
    """Return the CNI configuration of a node's pod network, which is a bridge.

    Masquerading is off, so that other nodes see the address of the pod itself.
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
    """Return the configuration of a node's kubelet, as JSON."""
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
            # Without these features, a pod with a ClusterTrustBundle volume stays
            # ContainerCreating.
            "featureGates": {"ClusterTrustBundle": True, "ClusterTrustBundleProjection": True},
            "syncFrequency": "2s",  # how soon pods see changed ConfigMaps
            "nodeLeaseDurationSeconds": min(40, timing.grace_s // 2),
            "nodeStatusUpdateFrequency": "2s" if timing.grace_s < 40 else "10s",
            "volumePluginDir": f"{node.directory}/kubelet/plugins",
            "resolvConf": f"{node.cluster.state}/resolv.conf",
        }
    )


def proxy(node: names.Node) -> str:
    """Return the configuration of a node's kube-proxy, as JSON."""
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
            # 0: kube-proxy leaves these settings of the machine's kernel as they are.
            "conntrack": {
                "maxPerCore": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }
    )


def corefile(cluster: names.Cluster) -> str:
    """Return the configuration of CoreDNS.

    It has no cache, because CoreDNS already keeps the objects of the API server in memory.
    """
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
    """Return a kubeconfig for one user of the cluster whose API server has the URL `server`."""
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
    """Return the objects that CoreDNS needs: the Service kube-dns, and rights to read objects.

    CoreDNS runs as a process of the kit, not in a pod.
    """
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
