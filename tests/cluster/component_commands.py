"""Make the command lines of the cluster's components.  Pure.

`Installed` maps the names of programs to their paths.  All paths of files are absolute and lie
below the state directory of the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster import names
from tests.cluster.component_configs import Timing

Installed = Mapping[str, Path]
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
ETCD_CLIENTS = "http://127.0.0.1:12379"
ETCD_PEERS = "http://127.0.0.1:12380"
# The processes of the control plane. The two in FIRST are started first. When the API server
# answers, those in REST are started.
FIRST = ("etcd", "kube-apiserver")
REST = ("kube-controller-manager", "kube-scheduler", "coredns")


def control(cluster: names.Cluster, programs: Installed, timing: Timing) -> dict[str, list[str]]:
    """Return the command lines of the control plane, by the name of each process."""
    return {
        "etcd": _etcd(cluster, programs),
        "kube-apiserver": _api_server(cluster, programs, timing),
        "kube-controller-manager": _controller_manager(cluster, programs, timing),
        "kube-scheduler": _scheduler(cluster, programs),
        "coredns": [str(programs["coredns"]), "-conf", f"{cluster.state}/Corefile"],
    }


def runtime(node: names.Node) -> list[str]:
    """Return the command line of a node's containerd."""
    return ["containerd", "-c", f"{node.directory}/containerd.toml"]


def agents(node: names.Node, programs: Installed, zone: str) -> dict[str, list[str]]:
    """Return the command lines of a node's kubelet and kube-proxy, by the name of each process."""
    state = node.cluster.state
    return {
        "kubelet": [
            str(programs["kubelet"]),
            f"--config={node.directory}/kubelet.json",
            f"--kubeconfig={state}/{node.name}-kubelet.conf",
            f"--root-dir={node.directory}/kubelet",
            f"--cert-dir={node.directory}/kubelet/pki",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
            f"--node-labels=topology.kubernetes.io/zone={zone}",
        ],
        "kube-proxy": [str(programs["kube-proxy"]), f"--config={node.directory}/proxy.json"],
    }


def inside(namespace: str, command: Sequence[str | Path]) -> list[str]:
    """Return a command line that runs a command in a network namespace, without HTTP proxies.

    The variables of HTTP proxies are unset: with them, the command would send requests for the API
    server to a proxy, which cannot be reached from the namespace.  `nsenter` is used because
    `ip netns exec` would also give the command its own mounts.
    """
    unset = [word for name in PROXIES for word in ("-u", name, "-u", name.upper())]
    entered = ["nsenter", f"--net=/run/netns/{namespace}"]
    return [*entered, "env", *unset, *(str(word) for word in command)]


def joining(members: Path, command: list[str]) -> list[str]:
    """Return a command line that first joins a cgroup and then runs `command` in it.

    `members` is the path of the file cgroup.procs of the cgroup.
    """
    return ["sh", "-c", 'echo $$ > "$1" && shift && exec "$@"', "sh", str(members), *command]


def _etcd(cluster: names.Cluster, programs: Installed) -> list[str]:
    return [
        str(programs["etcd"]),
        f"--data-dir={cluster.state}/etcd",
        f"--listen-client-urls={ETCD_CLIENTS}",
        f"--advertise-client-urls={ETCD_CLIENTS}",
        f"--listen-peer-urls={ETCD_PEERS}",
        f"--initial-advertise-peer-urls={ETCD_PEERS}",
        f"--initial-cluster=default={ETCD_PEERS}",
        # Without fsync, data survive a kill of etcd, but not a power cut, which no test causes.
        "--unsafe-no-fsync",
        "--log-level=error",
    ]


def _api_server(cluster: names.Cluster, programs: Installed, timing: Timing) -> list[str]:
    pki = f"{cluster.state}/pki"
    header = "--requestheader"
    return [
        str(programs["kube-apiserver"]),
        f"--etcd-servers={ETCD_CLIENTS}",
        f"--bind-address={names.API_ADDRESS}",
        f"--secure-port={names.API_PORT}",
        f"--advertise-address={names.API_ADDRESS}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--default-not-ready-toleration-seconds={timing.toleration_s}",
        f"--default-unreachable-toleration-seconds={timing.toleration_s}",
        f"--service-cluster-ip-range={names.SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"{header}-client-ca-file={pki}/front-proxy-ca.crt",
        f"{header}-username-headers=X-Remote-User",
        f"{header}-group-headers=X-Remote-Group",
        f"{header}-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        "--enable-aggregator-routing=true",
        "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
        "--runtime-config=certificates.k8s.io/v1beta1=true",
    ]


def _controller_manager(cluster: names.Cluster, programs: Installed, timing: Timing) -> list[str]:
    pki = f"{cluster.state}/pki"
    return [
        str(programs["kube-controller-manager"]),
        *_as_user(cluster, "controller-manager"),
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials=true",
        f"--cluster-cidr={names.PODS}",
        "--allocate-node-cidrs=false",
        "--horizontal-pod-autoscaler-sync-period=5s",  # default: 15 s; shorter for the tests
        f"--node-monitor-grace-period={timing.grace_s}s",
        f"--node-monitor-period={1 if timing.grace_s < 40 else 5}s",
        "--node-eviction-rate=1",
    ]


def _scheduler(cluster: names.Cluster, programs: Installed) -> list[str]:
    return [str(programs["kube-scheduler"]), *_as_user(cluster, "scheduler")]


def _as_user(cluster: names.Cluster, user: str) -> list[str]:
    file = f"{cluster.state}/{user}.conf"
    return [
        f"--kubeconfig={file}",
        f"--authentication-kubeconfig={file}",
        f"--authorization-kubeconfig={file}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]
