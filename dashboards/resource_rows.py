"""Rows and panels that several dashboards share: whether a process reaches a resource limit."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Row
from dashboards.panels import Line, Panel, Says, above, graph
from dashboards.query_scope import Scope
from dashboards.uncatalogued_series import CPU, MEMORY, MOST_FILES, OPEN_FILES
from midstreamer.telemetry import metrics

LAG_BAD_S, LAG_WARN_S = 0.1, 0.05


def at_its_limit(of: Scope) -> Row:
    """Return a row with the event loop lag, CPU, memory and open files of each pod."""
    return Row("Is a process at its limit?", [lag(of), cpu(of), memory(of), files(of)])


def lag(of: Scope, *, width: int = 12) -> Panel:
    """Return a panel with the event loop lag of each pod."""
    return graph(
        "Event loop lag",
        panels.SECONDS,
        Says(
            "How much later than requested the event loop wakes a timer. Everything in the process"
            " is delayed as much. 1 of 100 timers is later than the line.",
            "Above 0.1 s: answers, lease renewals and probes are late by as much.",
            "Look at the processors of the process. If they are busy, add a process. If not,"
            " something blocks the loop: compare with the last version, and report it.",
        ),
        Line(of.quantile(0.99, metrics.LOOP_LAG_S, "pod"), "{{pod}}"),
        limits=above(LAG_BAD_S, warn=LAG_WARN_S),
        width=width,
    )


def cpu(of: Scope, *, width: int = 12) -> Panel:
    """Return a panel with the number of processors that each pod keeps busy."""
    return graph(
        "Processors kept busy",
        panels.COUNT,
        Says(
            "Seconds of processor time per second: 1 means one processor all the time.",
            "Near 1 for a coordinator or a sync: its event loop uses one processor at most. An"
            " agent may use one processor per thread.",
            "Add a process. For an agent whose node has free processors, add a thread.",
        ),
        Line(of.rate(CPU, "pod"), "{{pod}}"),
        width=width,
    )


def memory(of: Scope, *, width: int = 12) -> Panel:
    """Return a panel with the resident memory of each pod."""
    return graph(
        "Memory held",
        panels.BYTES,
        Says(
            "Resident memory of the process, including the libraries that it has loaded.",
            "It grows for hours while the number of series does not: this is a leak. A process"
            " that reaches the memory limit of its pod is killed.",
            "Raise the limit as the sizing guide says. Report a leak with this graph.",
        ),
        Line(of.total(MEMORY, "pod"), "{{pod}}"),
        width=width,
    )


def files(of: Scope, *, width: int = 12) -> Panel:
    """Return a panel with the open files of each pod as share of its limit."""
    share = promql.ratio(of.total(OPEN_FILES, "pod"), of.total(MOST_FILES, "pod"))
    return graph(
        "Open files and sockets, of the limit",
        panels.SHARE,
        Says(
            "Open files and sockets, as share of the limit of the process.",
            "Above 80 %: soon the process cannot accept connections or open files.",
            "Raise the limit of open files of the pod or the service. Look at the connections on"
            " the dashboard Transport: peers that never disconnect are the usual reason.",
        ),
        Line(share, "{{pod}}"),
        limits=above(0.8, warn=0.5),
        width=width,
        most=1,
    )
