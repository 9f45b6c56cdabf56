"""Every background task has an owner: a new place that makes tasks is named here, with who ends it.

`Lifecycle.spawn` and `Lifecycle.background` are the way for a service.  What is below is the rest.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2]
SERVICES, OPERATOR = TOP / "services/midstreamer", TOP / "operator"
MAKERS = {"create_task", "ensure_future", "run_coroutine_threadsafe", "TaskGroup"}
GROUPS = {"group", "tasks", "_tasks"}
"""What a TaskGroup is called: it holds its tasks, so their names may be dropped."""

PLACES = {
    "cli/local.py::LocalFleet._start": "the fleet: `_stop` ends the watch, this the other",
    "cli/local.py::LocalFleet._watch": "a group that lasts as long as the method",
    "client/blocking.py::Client.call": "the caller, who waits for it",
    "client/links.py::Links.reached": "the method, which ends what it began",
    "client/links.py::Links._keep": "the links: `close` ends and awaits every keeper",
    "client/links.py::Door.unless_refused": "the method, which ends what it began",
    "coordinator/dispatcher.py::Dispatcher.__init__": "the group of `run`, before it is entered",
    "coordinator/dispatcher.py::Dispatcher.run": "a group that lasts as long as the method",
    "coordinator/dispatcher.py::Dispatcher._begin": "the group of `run`",
    "coordinator/dispatcher.py::Dispatcher._hang_up": "the group of `run`",
    "coordinator/state_requests.py::Recaller._asked": "the recaller: `close` ends what still asks",
    "coordinator/writer.py::Writer.run": "a group that lasts as long as the method",
    "midstreamer_operator/k8s/asking.py::obtained": "the function, which ends what it began",
    "midstreamer_operator/leading.py::Replica._lead": "the method, which ends what it began",
    "runtime/conversation.py::Peer._begin": "the peer: each ends with its request or the link",
    "runtime/conversation.py::Peer.start": "the peer: `close` ends it",
    "runtime/conversation.py::_next": "the function, which ends what it began",
    "runtime/lifecycle.py::Lifecycle.__init__": "the owner of all others of a process",
    "runtime/lifecycle.py::Lifecycle.spawn": "the owner of all others of a process",
    "runtime/listener.py::_attended": "the function, which ends what it began",
    "runtime/lookups.py::Lookups.places": "the look-ups: `close` ends what is under way",
    "runtime/peer.py::Session.__init__": "the group of `run`, before it is entered",
    "runtime/peer.py::Session.run": "a group that lasts as long as the method",
    "runtime/peer.py::Session.reached": "the method, which ends what it began",
    "runtime/peer.py::Session._installed": "the group of `run`",
    "runtime/peer.py::Session._moved": "the method, which ends what it began",
    "runtime/renewing.py::kept": "the block, which ends it",
    "cluster/pod_reports.py::told": "the block, which ends it",
    "runtime/shutdown.py::until_stopped": "the function, which awaits it",
    "runtime/shutdown.py::finish": "the function, which awaits it however often it is cancelled",
    "store/listening.py::Ear.listen": "the method, which ends what it began",
    "sync/link_drain.py::Leaving.all": "a group that lasts as long as the method",
    "transport/certified.py::Watch.over": "the watch, while something is open",
    "transport/open_links.py::OpenLinks._spawn": "the open links: `close` awaits or ends them",
    "transport/racing.py::_raced": "`first`, which ends what it began",
}
"""Each function that makes tasks, and who owns them."""


def _functions(node: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node, with the function or class that it stands in."""
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        within = f"{inside}.{child.name}".lstrip(".") if named else inside  # type: ignore[attr-defined]
        yield within, child
        yield from _functions(child, within)


def _makes_tasks(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.alias(name=name):
            return name in MAKERS
        case _:
            return False


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for source in (SERVICES, OPERATOR):
        for path in sorted(source.rglob("*.py")):
            yield (
                path.relative_to(source).as_posix(),
                ast.parse(path.read_text(encoding="utf-8")),
            )


def test_tasks_are_made_only_where_somebody_owns_them() -> None:
    found = {
        f"{path}::{within}"
        for path, tree in _sources()
        for within, node in _functions(tree)
        if _makes_tasks(node)
    }
    assert found == set(PLACES)


def test_no_task_is_made_and_dropped() -> None:
    dropped = [
        f"{path}::{within}"
        for path, tree in _sources()
        for within, node in _functions(tree)
        if isinstance(node, ast.Expr) and _is_bare(node.value)
    ]
    assert dropped == []


def _is_bare(call: ast.expr) -> bool:
    """Whether this makes a task outside a group; the loop itself holds tasks weakly."""
    match call:
        case ast.Call(func=ast.Attribute(value=owner, attr=name)) if name in MAKERS:
            held = getattr(owner, "attr", getattr(owner, "id", ""))
            return held not in GROUPS
        case _:
            return False
