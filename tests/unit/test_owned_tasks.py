"""Every background task has an owner: a function that creates tasks must be listed here.

A service uses `Lifecycle.spawn` and `Lifecycle.background`. This list has all other functions that
create tasks, each with the owner that ends them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2]
SERVICES, OPERATOR = TOP / "services/midstreamer", TOP / "operator"
MAKERS = {"create_task", "ensure_future", "run_coroutine_threadsafe", "TaskGroup"}
GROUPS = {"group", "tasks", "_tasks"}
"""Names of variables that hold a TaskGroup; a task in a group needs no other reference."""

PLACES = {
    "cli/local_fleet.py::LocalFleet._start": "`_stop` ends the watch, `_start` the other task",
    "cli/local_fleet.py::LocalFleet._watch": "a TaskGroup inside the method",
    "client/blocking.py::Client.call": "the caller, which waits for the result",
    "client/links.py::Links.reached": "the method, which ends the tasks it starts",
    "client/links.py::Links._keep": "the links: `close` ends and awaits every keeper",
    "client/links.py::Door.unless_refused": "the method, which ends the tasks it starts",
    "coordinator/dispatch_io.py::Dispatcher.__init__": "the TaskGroup that `run` enters",
    "coordinator/dispatch_io.py::Dispatcher.run": "a TaskGroup inside the method",
    "coordinator/dispatch_io.py::Dispatcher._begin": "the TaskGroup of `run`",
    "coordinator/dispatch_io.py::Dispatcher._hang_up": "the TaskGroup of `run`",
    "coordinator/state_requests.py::Recaller._asked": "the recaller: `close` ends open requests",
    "coordinator/outbox_writer.py::Writer.run": "a TaskGroup inside the method",
    "midstreamer_operator/k8s/request_certificate.py::obtained": "the function ends its tasks",
    "midstreamer_operator/leadership.py::Replica._lead": "the method ends its tasks",
    "runtime/link_requests.py::Peer._begin": "the peer: a task ends with request or link",
    "runtime/link_requests.py::Peer.start": "the peer: `close` ends the task",
    "runtime/link_requests.py::_next": "the function, which ends the tasks it starts",
    "runtime/lifecycle.py::Lifecycle.__init__": "the owner of all other tasks of a process",
    "runtime/lifecycle.py::Lifecycle.spawn": "the owner of all other tasks of a process",
    "runtime/peer_server.py::_serve_peer": "the function, which ends the tasks it starts",
    "runtime/name_lookups.py::Lookups.places": "`close` ends the look-ups under way",
    "runtime/peer.py::Session.__init__": "the TaskGroup that `run` enters",
    "runtime/peer.py::Session.run": "a TaskGroup inside the method",
    "runtime/peer.py::Session.reached": "the method, which ends the tasks it starts",
    "runtime/peer.py::Session._installed": "the TaskGroup of `run`",
    "runtime/peer.py::Session._moved": "the method, which ends the tasks it starts",
    "runtime/credential_renewal.py::kept": "the `async with` block ends the task",
    "cluster/pod_reports.py::told": "the `async with` block ends the task",
    "runtime/shutdown.py::until_stopped": "the function, which awaits the task",
    "runtime/shutdown.py::finish": "the function awaits the task even when cancelled",
    "store/commit_notifications.py::Ear.listen": "the method, which ends the tasks it starts",
    "sync/link_drain.py::Leaving.all": "a TaskGroup inside the method",
    "transport/certified_carrier.py::Watch.over": "`release` ends the task after the last link",
    "transport/open_links.py::OpenLinks._spawn": "the open links: `close` awaits or ends them",
    "transport/racing.py::_raced": "`first`, which ends the tasks it starts",
}
"""Each function that creates tasks, and the owner that ends the tasks."""


def _functions(node: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield (name, node) for every node; the name is that of the function or class around it."""
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
    """Return whether a call creates a task outside of any TaskGroup.

    The event loop holds tasks weakly: a task that nobody refers to may vanish before it ends.
    """
    match call:
        case ast.Call(func=ast.Attribute(value=owner, attr=name)) if name in MAKERS:
            held = getattr(owner, "attr", getattr(owner, "id", ""))
            return held not in GROUPS
        case _:
            return False
