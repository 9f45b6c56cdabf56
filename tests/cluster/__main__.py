"""`make cluster` and its like: a real Kubernetes on this machine, for tests.

    python -m tests.cluster up                 check, install, build, bring up; prints KUBECONFIG
    python -m tests.cluster up --nodes 2 --name other
    python -m tests.cluster down               end it, and leave nothing
    python -m tests.cluster smoke              up, the tests of tests/cluster/smoke, down
    python -m tests.cluster smoke --full       and those marked long, and of tests/cluster/full
    python -m tests.cluster load               up, tests.cluster.loaded, down
    python -m tests.cluster check              only say what this machine lacks
    python -m tests.cluster build              only build the programs
    python -m tests.cluster mark               is KUBECONFIG's cluster marked for tests?
    python -m tests.cluster node add node-1    also remove, kill, start, cut, mend, freeze, thaw
    python -m tests.cluster restart etcd       kill a process and start it as it was
    python -m tests.cluster kill-pod NAMESPACE/POD   SIGKILL to all in its containers
    python -m tests.cluster image FILE         import an image archive into every node
    python -m tests.cluster images             the images of `make images` into every node
    python -m tests.cluster inside COMMAND...  run a command in the network of node-0
    python -m tests.cluster outside COMMAND... run a command beside the nodes, as a client

CLUSTER_CACHE names the directory of built programs; the default is in the user's cache directory.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from images import make
from images.parts import Refused
from tests.cluster import (
    build,
    commands,
    configuration,
    crashes,
    host,
    leftovers,
    machine,
    mark,
    names,
    network,
    nodes,
    preflight,
    state,
    up,
)
from tests.cluster.configuration import Smaller, Timing

NODE_VERBS = {
    "remove": nodes.remove,
    "kill": nodes.kill,
    "start": nodes.start,
    "cut": nodes.cut,
    "mend": nodes.mend,
    "freeze": nodes.freeze,
    "thaw": nodes.thaw,
}


def prepare(cluster: names.Cluster, *, install: bool) -> None:
    """Say all that this machine lacks, and install Debian packages; raises KitError."""
    cache = build.cache_directory()
    wanted = preflight.Wanted(build.go_wanted(), build.missing(cache))
    seen = machine.observe(cluster.state, cache)
    found = preflight.problems(seen, wanted)
    for line in found:
        host.say(f"missing: {line}")
    packages = preflight.packages(seen)
    if packages and install and seen.root:
        host.say(f"installing {len(packages)} Debian packages")
        machine.install(packages)
        seen = machine.observe(cluster.state, cache)
        found = preflight.problems(seen, wanted)
        for line in found:
            host.say(f"still missing: {line}")
    if found:
        raise host.KitError(f"this machine lacks {len(found)} thing(s), see above")
    host.say(f"this machine will do: cgroup {seen.cgroup}, {seen.cores} cores, {seen.memory_mb} MB")


def bring_up(arguments: argparse.Namespace) -> None:
    """Check, build and bring up; a cluster that is up stays as it is."""
    cluster = names.cluster(arguments.name)
    with host.locked(cluster.lock):
        if up.is_up(cluster):
            count = len(state.nodes(cluster))
            if count != arguments.nodes:
                raise host.KitError(
                    f"cluster {cluster.name!r} is up with {count} node(s), not {arguments.nodes}: "
                    "take it down first, use the verb `node`, or choose another name"
                )
            host.say(f"cluster {cluster.name!r} is up already")
        else:
            prepare(cluster, install=True)
            programs = build.build(build.cache_directory(), keep_go_cache=arguments.keep_go_cache)
            timing = configuration.timing(arguments.nodes)
            if arguments.grace_s:
                timing = Timing(arguments.grace_s, arguments.toleration_s)
            up.bring_up(cluster, programs, count=arguments.nodes, timing=timing)
        _tell(cluster)


def _tell(cluster: names.Cluster) -> None:
    if state.read(cluster).filters_bridges:
        host.say(
            "NetworkPolicies are enforced on every node, between pods of one node too "
            f"(log/{up.ENFORCER}.log says what cannot be)"
        )
    else:
        host.say(
            "NetworkPolicies: THIS KERNEL CANNOT ENFORCE THEM: packets between two pods of a node "
            "do not pass iptables (no br_netfilter). Tests of NetworkPolicies prove nothing here"
        )
    host.say(f"kubectl is {cluster.state}/bin/kubectl")
    host.say(f"export KUBECONFIG={cluster.kubeconfig}")


def take_down(arguments: argparse.Namespace) -> None:
    """End a cluster and leave nothing; raises KitError when something is left."""
    cluster = names.cluster(arguments.name)
    with host.locked(cluster.lock):
        if not leftovers.found(cluster):
            host.say(f"there is no cluster {cluster.name!r}")
            return
        leftovers.clear(cluster)
        if left := leftovers.found(cluster):
            raise host.KitError(f"left of {cluster.name!r}: {'; '.join(left)}")
    host.say(f"cluster {cluster.name!r} is down, and nothing of it is left")


def _tests(arguments: argparse.Namespace) -> list[str]:
    full = ["tests/cluster/smoke", "tests/cluster/full"]
    chosen = full if arguments.full else ["tests/cluster/smoke", "-m", "not long"]
    return ["pytest", *chosen, *arguments.words]


def _load(arguments: argparse.Namespace) -> list[str]:
    return ["tests.cluster.loaded", *arguments.words]


def run_in_one(arguments: argparse.Namespace) -> None:
    """Bring a cluster up with our images, run a module there, and take it down; ends as that."""
    cluster = names.cluster(arguments.name)
    if up.is_up(cluster):
        raise host.KitError(
            f"cluster {cluster.name!r} is up: another run uses it, or one that was killed left it; "
            f"end it with `make cluster-down NAME={cluster.name}`"
        )
    bring_up(arguments)
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-m", *arguments.module(arguments)]
    try:
        _make_images()
        import_images(arguments)
        code = subprocess.run(command, env=environment, check=False).returncode
    finally:
        take_down(arguments)
    sys.exit(code)


def change_node(arguments: argparse.Namespace) -> None:
    """Do one thing to one node."""
    cluster = names.cluster(arguments.name)
    state.read(cluster)
    node = cluster.node(names.node_index(arguments.node))
    with host.locked(cluster.lock):
        if arguments.verb == "add":
            smaller = Smaller(arguments.less_cpu_millis, arguments.less_memory_mb)
            nodes.add(node, zone=arguments.zone, smaller=smaller)
        else:
            NODE_VERBS[arguments.verb](node)


def restart(arguments: argparse.Namespace) -> None:
    """Kill a process of the cluster and start it again."""
    cluster = names.cluster(arguments.name)
    state.read(cluster)
    number = signal.Signals[f"SIG{arguments.signal}"]
    up.restart(cluster, arguments.process, number)


def kill_pod(arguments: argparse.Namespace) -> None:
    """Kill what runs in a pod."""
    cluster = names.cluster(arguments.name)
    state.read(cluster)
    namespace, _, pod = arguments.pod.rpartition("/")
    killed = crashes.kill_pod(cluster, namespace or "default", pod)
    host.say(f"killed {len(killed)} process(es) in {arguments.pod}")


def import_images(arguments: argparse.Namespace) -> None:
    """Import what `make images` built of these sources into every node; names the tag to use."""
    cluster = names.cluster(arguments.name)
    state.read(cluster)
    try:
        found = make.found()
    except Refused as error:
        raise host.KitError(str(error)) from error
    begun_s = time.monotonic()
    for image in found["images"].values():
        nodes.import_image(cluster, Path(image["archive"]))
        host.say(image["reference"])
    host.say(f"imported in {time.monotonic() - begun_s:.1f} s; image.tag={found['tag']}")


def _make_images() -> None:
    try:
        make.make(make.Asked())
    except Refused as error:
        raise host.KitError(f"images: {error}") from error


def run_inside(arguments: argparse.Namespace) -> None:
    """Run a command in the cluster's network namespace and end as it ends."""
    cluster = names.cluster(arguments.name)
    state.read(cluster)
    _run_in(cluster.label, cluster.kubeconfig, arguments.command)


def run_outside(arguments: argparse.Namespace) -> None:
    """Run a command in the network of clients, beside the nodes, and end as it ends."""
    cluster = names.cluster(arguments.name)
    state.read(cluster)
    with host.locked(cluster.lock):
        network.make_outside(cluster)
    _run_in(cluster.outside, cluster.state / "admin.conf", arguments.command)


def _run_in(namespace: str, kubeconfig: Path, command: list[str]) -> None:
    words = command[1:] if command[:1] == ["--"] else command
    if not words:
        raise host.KitError("there is no command to run: write it after the verb")
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    entered = commands.inside(namespace, words)
    # In the place of this process, so that a signal to it reaches the command.
    os.execvpe(entered[0], entered, environment)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser("python -m tests.cluster", None, __doc__, formatter_class=shown)
    root.add_argument("--name", default=names.NAME_DEFAULT, help="which cluster")
    verbs = root.add_subparsers(required=True, metavar="VERB")
    _up_arguments(verbs.add_parser("up"))
    one = verbs.add_parser("smoke")
    _up_arguments(one)
    one.add_argument("--full", action="store_true", help="the tests that take long as well")
    one.add_argument("words", nargs="*", help="options of pytest, after --")
    one.set_defaults(do=run_in_one, module=_tests)
    one = verbs.add_parser("load")
    _up_arguments(one)
    one.add_argument("words", nargs="*", help="options of tests.cluster.loaded, after --")
    one.set_defaults(do=run_in_one, module=_load)
    verbs.add_parser("down").set_defaults(do=take_down)
    verbs.add_parser("check").set_defaults(do=_check)
    one = verbs.add_parser("build")
    one.add_argument("--keep-go-cache", action="store_true")
    one.set_defaults(do=_build)
    verbs.add_parser("mark").set_defaults(do=lambda _: host.say(f"{mark.check()}: marked"))
    one = verbs.add_parser("node")
    one.add_argument("verb", choices=["add", *NODE_VERBS])
    one.add_argument("node", metavar="node-N")
    one.add_argument("--zone", default="", help="topology label (default zone-N)")
    one.add_argument("--less-cpu-millis", type=int, default=0, help="kept back from pods")
    one.add_argument("--less-memory-mb", type=int, default=0, help="kept back from pods")
    one.set_defaults(do=change_node)
    one = verbs.add_parser("restart")
    one.add_argument("process", help="as in STATE/pids: etcd, node-0-kubelet, ...")
    one.add_argument("--signal", default="KILL", choices=["KILL", "TERM"])
    one.set_defaults(do=restart)
    one = verbs.add_parser("kill-pod")
    one.add_argument("pod", metavar="NAMESPACE/POD")
    one.set_defaults(do=kill_pod)
    one = verbs.add_parser("image")
    one.add_argument("archive", type=Path)
    one.set_defaults(do=lambda a: nodes.import_image(names.cluster(a.name), a.archive))
    verbs.add_parser("images").set_defaults(do=import_images)
    for verb, do in (("inside", run_inside), ("outside", run_outside)):
        one = verbs.add_parser(verb)
        one.add_argument("command", nargs=argparse.REMAINDER)
        one.set_defaults(do=do)
    return root


def _up_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("--nodes", type=_node_count, default=1)
    one.add_argument("--keep-go-cache", action="store_true", help="4 GB that speed up other builds")
    one.add_argument("--grace-s", type=int, default=0, help="silence before a node is NotReady")
    one.add_argument("--toleration-s", type=int, default=2, help="then pods stay so long")
    one.set_defaults(do=bring_up)


def _node_count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= names.NODES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: take 1 to {names.NODES_MAX} nodes")
    return int(text)


def _check(arguments: argparse.Namespace) -> None:
    prepare(names.cluster(arguments.name), install=False)


def _build(arguments: argparse.Namespace) -> None:
    build.build(build.cache_directory(), keep_go_cache=arguments.keep_go_cache)


def main() -> None:
    """Do what the command line says; a refusal is one message and exit code 1."""
    arguments = parser().parse_args()
    try:
        arguments.do(arguments)
    except (host.KitError, names.NameRefused) as error:
        sys.exit(f"cluster: {error}")
    except KeyboardInterrupt:
        sys.exit("cluster: interrupted; the next `up` or `down` clears what is there")
    except PermissionError as error:
        sys.exit(f"cluster: {error}: clusters are made, changed and taken down by root")


if __name__ == "__main__":
    main()
