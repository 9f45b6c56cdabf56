"""The fleet at a glance: what somebody opens first, and where to look from there."""

from __future__ import annotations

from dashboards import panels, promql
from dashboards.board import Board, Row
from dashboards.panels import Column, Line, Says, above, below, graph, listing, number
from dashboards.scope import FOLLOWERS, SERVERS, Scope
from dashboards.series import STARTED, UP
from midstreamer.telemetry import metrics, words

ALL = Scope()
ASKED = Scope("coordinator")
FOLLOW = Scope(FOLLOWERS)
SERVE = Scope(SERVERS)
FRAMES = promql.among("Append", "Match", "Lookup", "Survey")
SPEAKS = promql.among("LONG", "SHORT")

_missing = Row(
    "Is everything there?",
    [
        number(
            "Processes that answer",
            panels.COUNT,
            Says(
                "Processes that Prometheus reaches, by component.",
                "Fewer than were deployed.",
                "`kubectl get pods` names what does not run; its log says why.",
            ),
            Line(ALL.total(UP, "component"), "{{component}}"),
            width=8,
        ),
        number(
            "Processes gone",
            panels.COUNT,
            Says(
                "Processes that Prometheus knows of and does not reach.",
                "Any, for longer than a restart takes.",
                "Look at the pod's events and at the end of its log before.",
            ),
            Line(
                promql.or_zero(promql.number_of(f"{ALL.series(UP)} == 0")),
                "gone",
            ),
            limits=above(1),
        ),
        number(
            "Processes incomplete",
            panels.COUNT,
            Says(
                "Processes that serve and cannot answer everything: shards that nobody holds, a"
                " sync out of reach, a database that does not answer.",
                "Any, for longer than a rollout takes.",
                "`midstreamer status` names what each lacks.",
            ),
            Line(
                promql.or_zero(promql.number_of(f"{SERVE.series(metrics.COMPLETE)} == 0")),
                "incomplete",
            ),
            limits=above(1),
        ),
        number(
            "Shards that nobody holds",
            panels.COUNT,
            Says(
                "Shards that no agent can answer for, as the worst informed coordinator sees it.",
                "Any: matches of their series are refused as unavailable.",
                "Are enough agents there, on the board Pools? A new agent takes them over itself.",
            ),
            Line(ASKED.largest(metrics.SHARDS, state="unheld"), "unheld"),
            limits=above(1),
            leads=(
                "pools",
                "agents",
            ),
        ),
        number(
            "First certificate",
            panels.SECONDS,
            Says(
                "How long the certificate of the process that is worst off is still valid.",
                "Below a few hours where certificates live for a day: renewal is stuck.",
                "The board Certificates names the process and why it was not renewed.",
            ),
            Line(f"{promql.smallest(ALL.known(metrics.CERTIFICATE_EXPIRY_S))} - time()", "left"),
            limits=below(3600, good=4 * 3600),
            leads=("certificates",),
        ),
        listing(
            "Each process",
            Says(
                "Every process: whether it is reached, what it may lack, how long it runs, how far"
                " behind the feed it is, how late its event loop.",
                "A row with a number in orange or red.",
                "Open the board of its component and choose the pod there.",
            ),
            "pod",
            Column("reached", panels.COUNT, ALL.total(UP, "pod"), below(1)),
            Column("complete", panels.COUNT, SERVE.total(metrics.COMPLETE, "pod"), below(1)),
            Column("runs since", panels.SECONDS, f"time() - {ALL.largest(STARTED, 'pod')}"),
            Column(
                "behind the feed",
                panels.SECONDS,
                FOLLOW.largest(metrics.FEED_LAG_S, "pod"),
                above(10, warn=3),
            ),
            Column(
                "event loop late",
                panels.SECONDS,
                ALL.quantile(0.99, metrics.LOOP_LAG_S, "pod"),
                above(0.1, warn=0.05),
            ),
        ),
    ],
)

_fast = Row(
    "Is it fast enough?",
    [
        graph(
            "A match: until the answer",
            panels.SECONDS,
            Says(
                "From the arrival of a match at a coordinator to its answer: half were faster than"
                " the lower line, 99 in a hundred faster than the upper. Dots lead to traces.",
                "The upper line above 0.2 s, which is what the objective asks for.",
                "The board Coordinator tells waiting for agents from waiting for sync.",
            ),
            Line(
                ASKED.quantile(0.99, metrics.REQUEST_LATENCY_S, frame="Match", result="ok"),
                "99 %",
                exemplars=True,
            ),
            Line(
                ASKED.quantile(0.5, metrics.REQUEST_LATENCY_S, frame="Match", result="ok"), "50 %"
            ),
            limits=above(0.2),
            leads=(
                "coordinator",
                "agents",
            ),
        ),
        graph(
            "An append: until it is stored",
            panels.SECONDS,
            Says(
                "From the arrival of ticks at a coordinator to the word that PostgreSQL has them.",
                "The upper line above 0.1 s, which is what the objective asks for.",
                "The board Sync and PostgreSQL tells waiting for a turn from a slow disk.",
            ),
            Line(
                ASKED.quantile(0.99, metrics.REQUEST_LATENCY_S, frame="Append", result="ok"),
                "99 %",
                exemplars=True,
            ),
            Line(
                ASKED.quantile(0.5, metrics.REQUEST_LATENCY_S, frame="Append", result="ok"), "50 %"
            ),
            limits=above(0.1),
            leads=(
                "coordinator",
                "sync",
            ),
        ),
        graph(
            "Requests of clients",
            panels.PER_S,
            Says(
                "Requests that coordinators answered each second, by what was asked.",
                "A line that falls to nothing while clients are there.",
                "Look at the refusals below, then at the clients' own logs.",
            ),
            Line(ASKED.observed(metrics.REQUEST_LATENCY_S, "frame", frame=FRAMES), "{{frame}}"),
        ),
        graph(
            "Requests not answered as asked",
            panels.PER_S,
            Says(
                "Refusals and failures each second, by the code that the client got.",
                "`overloaded`, `deadline`, `unavailable`, `error`, `store`: those are ours. Others"
                " are the client's: what it asked for is not to be had.",
                "docs/reference/errors.md says of each code what it means and what to do.",
            ),
            Line(
                ASKED.observed(
                    metrics.REQUEST_LATENCY_S,
                    "result",
                    frame=FRAMES,
                    result=promql.none_of(words.OK),
                ),
                "{{result}}",
            ),
            leads=(
                "coordinator",
                "slo",
            ),
        ),
    ],
)

_full = Row(
    "Is anything filling up or falling behind?",
    [
        graph(
            "Bounded queues, how full",
            panels.SHARE,
            Says(
                "What waits in a queue, as share of what it takes, of the fullest process each.",
                "Near 1: what comes then is refused as overloaded.",
                "The name of the queue leads to its board: matches and outbox are a coordinator's,"
                " searches an agent's, writes and reads a sync's.",
            ),
            Line(
                promql.largest(
                    promql.ratio(
                        ALL.series(metrics.QUEUE_DEPTH), ALL.series(metrics.QUEUE_CAPACITY)
                    ),
                    "queue",
                ),
                "{{queue}}",
            ),
            limits=above(0.9, warn=0.5),
            most=1,
            leads=(
                "coordinator",
                "agents",
                "sync",
            ),
        ),
        graph(
            "Behind the feed",
            panels.SECONDS,
            Says(
                "For how long the process that is furthest behind has not known that it has all"
                " that the feed has, by component.",
                "It rises without end: the process decides from the past.",
                "Look at the feed on the board Sync and PostgreSQL, then at that process's loop.",
            ),
            Line(FOLLOW.largest(metrics.FEED_LAG_S, "component"), "{{component}}"),
            limits=above(10, warn=3),
            leads=("sync",),
        ),
        graph(
            "Background work that failed",
            panels.COUNT,
            Says(
                "Background loops that failed within the last hour, by loop.",
                "Any: they are begun again, but nothing is meant to fail there.",
                "The log line `task.failed` of that time has the reason.",
            ),
            Line(promql.or_zero(ALL.increase(metrics.TASK_FAILURES, "1h", "task")), "{{task}}"),
            limits=above(1),
        ),
        graph(
            "Connections turned away",
            panels.PER_S,
            Says(
                "Connections each second that were not accepted, by reason.",
                "A reason that was not there yesterday; one that goes on.",
                "The board Transport says which component turned them away.",
            ),
            Line(
                ALL.rate(metrics.HANDSHAKES, "result", result=promql.none_of(words.ACCEPTED)),
                "{{result}}",
            ),
            leads=("transport",),
        ),
    ],
)

_decides = Row(
    "What does it take in, and what does it say?",
    [
        graph(
            "Ticks",
            panels.PER_S,
            Says(
                "Ticks committed each second: stored, or repeated, which were stored before.",
                "None while clients append; mostly repeated, which says that clients append twice.",
                "The board Sync and PostgreSQL.",
            ),
            Line(Scope("sync").rate(metrics.TICKS, "result"), "{{result}}"),
            width=10,
            leads=("sync",),
        ),
        graph(
            "Decisions",
            panels.PER_S,
            Says(
                "Decisions each second, by what was said: LONG, SHORT, or the reason for silence.",
                "Silence for one reason alone, of which the board Reasoning tells more.",
                "The board Reasoning.",
            ),
            Line(ASKED.rate(metrics.DECISIONS, "outcome"), "{{outcome}}"),
            stacked=True,
            width=10,
            leads=("reasoning",),
        ),
        number(
            "Signals, of decisions",
            panels.SHARE,
            Says(
                "LONG and SHORT, as share of all decisions.",
                "There is no bad value: without a licence it is right to be silent.",
                "The board Reasoning says why it is silent.",
            ),
            Line(
                promql.ratio(
                    promql.or_zero(ASKED.rate(metrics.DECISIONS, outcome=SPEAKS)),
                    ASKED.rate(metrics.DECISIONS),
                ),
                "signals",
            ),
        ),
    ],
)

_tells = Row(
    "Does it tell everything, and is it one version?",
    [
        number(
            "Processes, by version",
            panels.COUNT,
            Says(
                "How many processes run which version.",
                "Two versions for longer than a rollout.",
                "`kubectl rollout status` says what it waits for.",
            ),
            Line(ALL.total(metrics.BUILD, "version"), "{{version}}"),
            width=8,
        ),
        graph(
            "Log lines left out",
            panels.PER_S,
            Says(
                "Log lines each second that were not written because a peer caused too many of"
                " them, by event.",
                "It goes on: somebody is trying something, or a client is broken.",
                "The lines that were written name the peer.",
            ),
            Line(promql.or_zero(ALL.rate(metrics.LOG_LINES_LEFT_OUT, "event")), "{{event}}"),
            width=8,
        ),
        graph(
            "Spans for the collector of traces",
            panels.PER_S,
            Says(
                "Spans each second that ended and were sampled: exported, or dropped.",
                "Dropped: traces have holes. Requests do not suffer.",
                "Does the collector answer? docs/how-to/observe.md.",
            ),
            Line(promql.or_zero(ALL.rate(metrics.SPANS, "result")), "{{result}}"),
            width=8,
        ),
    ],
)

BOARD = Board(
    "fleet",
    "Fleet",
    "Whether the fleet is whole, fast and safe, and which board says more.",
    [_missing, _fast, _full, _decides, _tells],
)
