"""Run a real Kubernetes cluster on this machine, for tests; `make cluster` calls this command.

    python -m tests.cluster up                 check the machine, build, start; print KUBECONFIG
    python -m tests.cluster up --nodes 2 --name other
    python -m tests.cluster down               stop the cluster and remove all that it made
    python -m tests.cluster smoke              up, the tests of tests/cluster/smoke, down
    python -m tests.cluster smoke --full       also tests marked long, and tests/cluster/full
    python -m tests.cluster load               up, tests.cluster.loadtest_release, down
    python -m tests.cluster check              only print what this machine lacks
    python -m tests.cluster build              only build the programs
    python -m tests.cluster mark               check that KUBECONFIG's cluster is marked for tests
    python -m tests.cluster node add node-1    also remove, kill, start, cut, mend, freeze, thaw
    python -m tests.cluster restart etcd       kill a process and start it with the same command
    python -m tests.cluster kill-pod NAMESPACE/POD   send SIGKILL to the pod's processes
    python -m tests.cluster image FILE         import an image archive into every node
    python -m tests.cluster images             import the images of `make images` into every node
    python -m tests.cluster inside COMMAND...  run a command in the network of node-0
    python -m tests.cluster outside COMMAND... run a command in the network of clients

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

from images import build_images
from images.parts import Refused
from tests.cluster import (
    cluster_guard,
    commands_here,
    component_commands,
    component_configs,
    crashes,
    leftovers,
    machine,
    names,
    network_namespaces,
    nodes,
    preflight,
    program_builds,
    state_files,
    up,
)
from tests.cluster.component_configs import Smaller, Timing

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
    """Print all that this machine lacks; with `install`, install missing Debian packages.

    Raises KitError when something that a cluster needs is still missing.
    """
    cache = program_builds.cache_directory()
    wanted = preflight.Wanted(program_builds.go_wanted(), program_builds.missing(cache))
    seen = machine.observe(cluster.state, cache)
    found = preflight.problems(seen, wanted)
    for line in found:
        commands_here.say(f"missing: {line}")
    packages = preflight.packages(seen)
    if packages and install and seen.root:
        commands_here.say(f"installing {len(packages)} Debian packages")
        machine.install(packages)
        seen = machine.observe(cluster.state, cache)
        found = preflight.problems(seen, wanted)
        for line in found:
            commands_here.say(f"still missing: {line}")
    if found:
        raise commands_here.KitError(
            f"this machine lacks {len(found)} thing(s): see the list above"
        )
    commands_here.say(
        f"this machine is fit: cgroup {seen.cgroup}, {seen.cores} cores, {seen.memory_mb} MB"
    )


def bring_up(arguments: argparse.Namespace) -> None:
    """Check the machine, build the programs and start a cluster; do nothing if it is up already."""
    cluster = names.cluster(arguments.name)
    with commands_here.locked(cluster.lock):
        if up.is_up(cluster):
            count = len(state_files.nodes(cluster))
            if count != arguments.nodes:
                raise commands_here.KitError(
                    f"cluster {cluster.name!r} is up with {count} node(s), not {arguments.nodes}: "
                    "take it down first, use the verb `node`, or choose another name"
                )
            commands_here.say(f"cluster {cluster.name!r} is already up")
        else:
            prepare(cluster, install=True)
            programs = program_builds.build(
                program_builds.cache_directory(), keep_go_cache=arguments.keep_go_cache
            )
            timing = component_configs.timing(arguments.nodes)
            if arguments.grace_s:
                timing = Timing(arguments.grace_s, arguments.toleration_s)
            up.bring_up(cluster, programs, count=arguments.nodes, timing=timing)
        _tell(cluster)


def _tell(cluster: names.Cluster) -> None:
    if state_files.read(cluster).filters_bridges:
        commands_here.say(
            "NetworkPolicies are enforced on every node, also between pods of the same node "
            f"(log/{up.ENFORCER}.log names each policy that cannot be enforced)"
        )
    else:
        commands_here.say(
            "NetworkPolicies: THIS KERNEL CANNOT ENFORCE THEM: packets between two pods of a node "
            "do not pass iptables (no br_netfilter). Ignore the results of NetworkPolicy tests here"
        )
    commands_here.say(f"kubectl is {cluster.state}/bin/kubectl")
    commands_here.say(f"export KUBECONFIG={cluster.kubeconfig}")


def take_down(arguments: argparse.Namespace) -> None:
    """Stop a cluster and remove all that it made; raises KitError when something is left."""
    cluster = names.cluster(arguments.name)
    with commands_here.locked(cluster.lock):
        if not leftovers.found(cluster):
            commands_here.say(f"there is no cluster {cluster.name!r}")
            return
        leftovers.clear(cluster)
        if left := leftovers.found(cluster):
            raise commands_here.KitError(
                f"the cluster {cluster.name!r} could not be removed whole; left: {'; '.join(left)}"
            )
    commands_here.say(f"cluster {cluster.name!r} is down, and nothing of it is left")


def _tests(arguments: argparse.Namespace) -> list[str]:
    full = ["tests/cluster/smoke", "tests/cluster/full"]
    chosen = full if arguments.full else ["tests/cluster/smoke", "-m", "not long"]
    return ["pytest", *chosen, *arguments.words]


def _load(arguments: argparse.Namespace) -> list[str]:
    return ["tests.cluster.loadtest_release", *arguments.words]


def run_in_one(arguments: argparse.Namespace) -> None:
    """Start a cluster with the images of this project, run a module, and take the cluster down.

    `arguments.module` says which module: pytest for `smoke`, the load test for `load`.  Ends this
    process with the exit code of the module.
    """
    cluster = names.cluster(arguments.name)
    if up.is_up(cluster):
        raise commands_here.KitError(
            f"cluster {cluster.name!r} is up: another run uses it, or a run that was killed left "
            f"it; end it with `make cluster-down NAME={cluster.name}`"
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
    """Change the node that the arguments name, as the verb in the arguments says.

    The verbs are "add" and `NODE_VERBS`.  For example, "cut" disconnects the node from the network,
    and "mend" connects it again; see `tests.cluster.nodes`.
    """
    cluster = names.cluster(arguments.name)
    state_files.read(cluster)
    node = cluster.node(names.node_index(arguments.node))
    with commands_here.locked(cluster.lock):
        if arguments.verb == "add":
            smaller = Smaller(arguments.less_cpu_millis, arguments.less_memory_mb)
            nodes.add(node, zone=arguments.zone, smaller=smaller)
        else:
            NODE_VERBS[arguments.verb](node)


def restart(arguments: argparse.Namespace) -> None:
    """End one process of a cluster with a signal, and start it again.

    The arguments name the cluster, the process and the signal.
    """
    cluster = names.cluster(arguments.name)
    state_files.read(cluster)
    number = signal.Signals[f"SIG{arguments.signal}"]
    up.restart(cluster, arguments.process, number)


def kill_pod(arguments: argparse.Namespace) -> None:
    """Send SIGKILL to all processes in the containers of a pod."""
    cluster = names.cluster(arguments.name)
    state_files.read(cluster)
    namespace, _, pod = arguments.pod.rpartition("/")
    killed = crashes.kill_pod(cluster, namespace or "default", pod)
    commands_here.say(f"killed {len(killed)} process(es) in {arguments.pod}")


def import_images(arguments: argparse.Namespace) -> None:
    """Import into every node the images that `make images` built; print their names and tag."""
    cluster = names.cluster(arguments.name)
    state_files.read(cluster)
    try:
        found = build_images.found()
    except Refused as error:
        raise commands_here.KitError(str(error)) from error
    begun_s = time.monotonic()
    for image in found["images"].values():
        nodes.import_image(cluster, Path(image["archive"]))
        commands_here.say(image["reference"])
    commands_here.say(f"imported in {time.monotonic() - begun_s:.1f} s; image.tag={found['tag']}")


def _make_images() -> None:
    try:
        build_images.make(build_images.Asked())
    except Refused as error:
        raise commands_here.KitError(f"images: {error}") from error


def run_inside(arguments: argparse.Namespace) -> None:
    """Run a command in node-0's network namespace; end this process with its exit code."""
    cluster = names.cluster(arguments.name)
    state_files.read(cluster)
    _run_in(cluster.label, cluster.kubeconfig, arguments.command)


def run_outside(arguments: argparse.Namespace) -> None:
    """Run a command in the network namespace of clients; end this process with its exit code.

    From this namespace the nodes can be reached, but no pod.
    """
    cluster = names.cluster(arguments.name)
    state_files.read(cluster)
    with commands_here.locked(cluster.lock):
        network_namespaces.make_outside(cluster)
    _run_in(cluster.outside, cluster.state / "admin.conf", arguments.command)


def _run_in(namespace: str, kubeconfig: Path, command: list[str]) -> None:
    words = command[1:] if command[:1] == ["--"] else command
    if not words:
        raise commands_here.KitError("there is no command to run: write the command after the verb")
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    entered = component_commands.inside(namespace, words)
    # The command replaces this process, so that a signal to this process reaches the command.
    os.execvpe(entered[0], entered, environment)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser("python -m tests.cluster", None, __doc__, formatter_class=shown)
    root.add_argument("--name", default=names.NAME_DEFAULT, help="name of the cluster")
    verbs = root.add_subparsers(required=True, metavar="VERB")
    _up_arguments(verbs.add_parser("up"))
    verb_parser = verbs.add_parser("smoke")
    _up_arguments(verb_parser)
    verb_parser.add_argument("--full", action="store_true", help="run the long tests too")
    verb_parser.add_argument("words", nargs="*", help="options for pytest, after --")
    verb_parser.set_defaults(do=run_in_one, module=_tests)
    verb_parser = verbs.add_parser("load")
    _up_arguments(verb_parser)
    verb_parser.add_argument(
        "words", nargs="*", help="options for tests.cluster.loadtest_release, after --"
    )
    verb_parser.set_defaults(do=run_in_one, module=_load)
    verbs.add_parser("down").set_defaults(do=take_down)
    verbs.add_parser("check").set_defaults(do=_check)
    verb_parser = verbs.add_parser("build")
    verb_parser.add_argument("--keep-go-cache", action="store_true")
    verb_parser.set_defaults(do=_build)
    verbs.add_parser("mark").set_defaults(
        do=lambda _: commands_here.say(f"{cluster_guard.check()}: marked")
    )
    verb_parser = verbs.add_parser("node")
    verb_parser.add_argument("verb", choices=["add", *NODE_VERBS])
    verb_parser.add_argument("node", metavar="node-N")
    verb_parser.add_argument("--zone", default="", help="topology label (default zone-N)")
    verb_parser.add_argument(
        "--less-cpu-millis", type=int, default=0, help="CPU reserved from pods"
    )
    verb_parser.add_argument(
        "--less-memory-mb", type=int, default=0, help="memory reserved from pods"
    )
    verb_parser.set_defaults(do=change_node)
    verb_parser = verbs.add_parser("restart")
    verb_parser.add_argument("process", help="a name in STATE/pids: etcd, node-0-kubelet, ...")
    verb_parser.add_argument("--signal", default="KILL", choices=["KILL", "TERM"])
    verb_parser.set_defaults(do=restart)
    verb_parser = verbs.add_parser("kill-pod")
    verb_parser.add_argument("pod", metavar="NAMESPACE/POD")
    verb_parser.set_defaults(do=kill_pod)
    verb_parser = verbs.add_parser("image")
    verb_parser.add_argument("archive", type=Path)
    verb_parser.set_defaults(do=lambda a: nodes.import_image(names.cluster(a.name), a.archive))
    verbs.add_parser("images").set_defaults(do=import_images)
    for verb, do in (("inside", run_inside), ("outside", run_outside)):
        verb_parser = verbs.add_parser(verb)
        verb_parser.add_argument("command", nargs=argparse.REMAINDER)
        verb_parser.set_defaults(do=do)
    return root


def _up_arguments(one: argparse.ArgumentParser) -> None:
    one.add_argument("--nodes", type=_node_count, default=1)
    one.add_argument("--keep-go-cache", action="store_true", help="keep Go's cache (4 GB)")
    one.add_argument("--grace-s", type=int, default=0, help="silence until a node is NotReady")
    one.add_argument("--toleration-s", type=int, default=2, help="then, time until eviction")
    one.set_defaults(do=bring_up)


def _node_count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= names.NODES_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of nodes: give 1 to {names.NODES_MAX}"
        )
    return int(text)


def _check(arguments: argparse.Namespace) -> None:
    prepare(names.cluster(arguments.name), install=False)


def _build(arguments: argparse.Namespace) -> None:
    program_builds.build(program_builds.cache_directory(), keep_go_cache=arguments.keep_go_cache)


def main() -> None:
    """Run the command line; on a known error, print one message and end with exit code 1."""
    arguments = parser().parse_args()
    try:
        arguments.do(arguments)
    except (commands_here.KitError, names.NameRefused) as error:
        sys.exit(f"cluster: {error}")
    except KeyboardInterrupt:
        sys.exit("cluster: interrupted; the next `up` or `down` removes what was left")
    except PermissionError as error:
        sys.exit(f"cluster: {error}: run the command as root")


if __name__ == "__main__":
    main()
