"""Rows that several boards share: whether processes are at the limit of what they have."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Row
from dashboards.panels import Line, Panel, Says, above, graph
from dashboards.scope import Scope
from dashboards.series import CPU, MEMORY, MOST_FILES, OPEN_FILES
from midstreamer.telemetry import metrics

LAG_BAD_S, LAG_WARN_S = 0.1, 0.05


def at_its_limit(of: Scope) -> Row:
    """Processor, memory, event loop and files of each pod."""
    return Row("Is a process at its limit?", [lag(of), cpu(of), memory(of), files(of)])


def lag(of: Scope, *, width: int = 12) -> Panel:
    """How late the event loop is."""
    return graph(
        "Event loop: how late it is",
        panels.SECONDS,
        Says(
            "How much later than asked the loop woke a timer; all that a process does waits so"
            " long. One in a hundred was later than the line.",
            "Above 0.1 s: answers, leases and probes are late by it, whatever else is fast.",
            "Look at the processor beside it. If that is full, add a process; if it is not,"
            " something blocks the loop: compare with the last version, and file it.",
        ),
        Line(of.quantile(0.99, metrics.LOOP_LAG_S, "pod"), "{{pod}}"),
        limits=above(LAG_BAD_S, warn=LAG_WARN_S),
        width=width,
    )


def cpu(of: Scope, *, width: int = 12) -> Panel:
    """How many processors a process keeps busy."""
    return graph(
        "Processors kept busy",
        panels.COUNT,
        Says(
            "Seconds of processor time each second: 1 is one processor, all the time.",
            "An event loop uses one at most: near 1 a coordinator or a sync is full. An agent may"
            " use as many as it has threads.",
            "Add a process, or a thread to an agent whose node has processors left.",
        ),
        Line(of.rate(CPU, "pod"), "{{pod}}"),
        width=width,
    )


def memory(of: Scope, *, width: int = 12) -> Panel:
    """What a process holds in memory."""
    return graph(
        "Memory held",
        panels.BYTES,
        Says(
            "What the process holds in memory, the libraries that it has loaded included.",
            "It grows for hours while the number of series does not: it leaks. Near the limit of"
            " the pod it will be ended.",
            "Raise the limit by the table of the sizing guide; file a leak with this picture.",
        ),
        Line(of.total(MEMORY, "pod"), "{{pod}}"),
        width=width,
    )


def files(of: Scope, *, width: int = 12) -> Panel:
    """How near a process is to the most files that it may open."""
    share = promql.ratio(of.total(OPEN_FILES, "pod"), of.total(MOST_FILES, "pod"))
    return graph(
        "Files and sockets, of those it may open",
        panels.SHARE,
        Says(
            "Open files and sockets, as share of the most that the process may open.",
            "Above 80 %: soon it cannot accept connections or open its database.",
            "Raise the limit of open files of the pod or the service, and look at the connections"
            " on the board Transport: peers that never leave are the usual reason.",
        ),
        Line(share, "{{pod}}"),
        limits=above(0.8, warn=0.5),
        width=width,
        most=1,
    )
