"""Dashboard Sync and PostgreSQL: how soon writes are stored, and whether followers get the feed."""

from __future__ import annotations

from dashboards import panels, promql, resource_rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, below, graph, number, spread
from dashboards.query_scope import FOLLOWERS, Scope
from midstreamer.telemetry import metrics

OF = Scope("sync", by_pod=True)
FOLLOW = Scope(FOLLOWERS)

_writes = Row(
    "Are writes stored in time?",
    [
        spread(
            "Time of a commit",
            panels.SECONDS,
            Says(
                "Time that transactions took at PostgreSQL, over time.",
                "A band above 0.05 s: the disk is slow, or another transaction blocks this one.",
                "Look at the disk metrics of the database, and at the clashes on this dashboard.",
            ),
            OF.buckets(metrics.SYNC_LATENCY_S, kind="commit"),
        ),
        graph(
            "Write: time until it is stored",
            panels.SECONDS,
            Says(
                "Time from the arrival of a write at sync to its answer: the wait in the "
                "queue and the commit.",
                "Far above the commit alone: writes wait in the queue.",
                "If batches have their largest size, the database is the limit; else the "
                "event loop is.",
            ),
            Line(
                OF.quantile(0.99, metrics.REQUEST_LATENCY_S, frame="Write"),
                "99 %",
                exemplars=True,
            ),
            Line(OF.quantile(0.5, metrics.REQUEST_LATENCY_S, frame="Write"), "50 %"),
            limits=above(0.1),
        ),
        graph(
            "Transactions",
            panels.PER_S,
            Says(
                "Write transactions per second: committed, clashed with another "
                "transaction and retried, or failed.",
                "Any `failed`; `clashed` as often as committed: two syncs write the same rows.",
                "Failed: the log line of that time has the message of PostgreSQL. "
                "Clashed: retries take time, but nothing is lost.",
            ),
            Line(OF.rate(metrics.COMMITS, "result"), "{{result}}"),
        ),
        graph(
            "Rows per transaction",
            panels.COUNT,
            Says(
                "Ticks, decisions and verdicts in one transaction (batch): half of the "
                "transactions had fewer rows than the lower line, 99 of 100 had fewer "
                "than the upper line.",
                "There is no bad value. Large batches mean that writes arrive faster "
                "than commits finish.",
                "Compare with the time of a commit.",
            ),
            Line(OF.quantile(0.99, metrics.WRITE_BATCH_ROWS), "99 %"),
            Line(OF.quantile(0.5, metrics.WRITE_BATCH_ROWS), "50 %"),
        ),
        graph(
            "Ticks",
            panels.PER_S,
            Says(
                "Ticks per second: stored, or repeated, which means stored before.",
                "Mostly repeated: clients append the same ticks twice, for example after "
                "a lost answer.",
                "Check whether clients receive their answers: look at links and losses "
                "on the dashboard Transport.",
            ),
            Line(OF.rate(metrics.TICKS, "result"), "{{result}}"),
        ),
        graph(
            "Queue of writes: share in use",
            panels.SHARE,
            Says(
                "Entries in the queue of writes as share of its capacity.",
                "Near 1: new writes will be refused as overloaded.",
                "If commits are slow, the database is the limit. Then do not add a sync: "
                "it would only cause more clashes.",
            ),
            Line(
                promql.ratio(
                    OF.total(metrics.QUEUE_DEPTH, "pod", queue="writes"),
                    OF.total(metrics.QUEUE_CAPACITY, "pod", queue="writes"),
                ),
                "{{pod}}",
            ),
            limits=above(0.9, warn=0.5),
            most=1,
        ),
    ],
)

_postgres = Row(
    "Does PostgreSQL answer?",
    [
        number(
            "PostgreSQL answers",
            panels.COUNT,
            Says(
                "1 while PostgreSQL answers the sync, else 0.",
                "0: nothing is stored, and appends are refused as unavailable.",
                "Check whether the database runs; `docs/how-to/database.md` describes how.",
            ),
            Line(OF.smallest(metrics.POSTGRES_UP, "pod"), "{{pod}}"),
            limits=below(1),
            width=6,
        ),
        number(
            "Connections, evaluation database",
            panels.COUNT,
            Says(
                "Open connections of the process `postgres` of the fleet. Empty if you "
                "use your own database.",
                "As many as its limit: the next connection is refused.",
                "Each sync has a connection pool. Lower the size of the pools, or raise "
                "the limit of the database.",
            ),
            Line(Scope("postgres").total(metrics.POSTGRES_CONNECTIONS), "open"),
            width=6,
        ),
        graph(
            "Connections in use",
            panels.COUNT,
            Says(
                "Connections of the pool by state, and the capacity of the pool.",
                "Busy connections at the capacity for minutes: reads and writes wait for "
                "each other.",
                "Raise `pool` in the settings of sync, if the database allows more connections.",
            ),
            Line(OF.total(metrics.POOL_CONNECTIONS, "state"), "{{state}}"),
            Line(OF.total(metrics.POOL_CAPACITY), "capacity"),
        ),
        graph(
            "Waiting for a connection",
            panels.SECONDS,
            Says(
                "Time that requests waited for a connection of the pool.",
                "Above 0.05 s: the pool is too small, or a statement is too slow.",
                "`pg_stat_activity` shows the statements that run on the connections.",
            ),
            Line(OF.quantile(0.99, metrics.POOL_WAIT_S, "pod"), "{{pod}} 99 %"),
            limits=above(0.05),
        ),
        graph(
            "Steps between memory and PostgreSQL, 99 %",
            panels.SECONDS,
            Says(
                "99 of 100 steps were faster than this, by kind: commit, reading the "
                "feed, loading a shard.",
                "`load` takes seconds: a new agent waits for its shards.",
                "Check whether the database reads from its disk or from memory.",
            ),
            Line(OF.quantile(0.99, metrics.SYNC_LATENCY_S, "kind"), "{{kind}}"),
        ),
    ],
)

_feed = Row(
    "Does the feed reach its followers?",
    [
        graph(
            "Changes of the feed",
            panels.PER_S,
            Says(
                "How fast the position of the change feed rises, at the sync with the "
                "highest position.",
                "0 while transactions are committed.",
                "Every follower is then behind: look at the log of sync.",
            ),
            Line(
                promql.largest(OF.slope(metrics.FEED_POSITION)),
                "changes",
            ),
        ),
        graph(
            "Behind the feed, by component",
            panels.SECONDS,
            Says(
                "Time since the process that is furthest behind last had all changes of the feed.",
                "sync: PostgreSQL is slow or not reachable. Other components: their "
                "links or event loops are slow.",
                "The dashboards Agents and kernels and Coordinator show each process.",
            ),
            Line(FOLLOW.largest(metrics.FEED_LAG_S, "component"), "{{component}}"),
            limits=above(10, warn=3),
        ),
        graph(
            "Changes behind the furthest process",
            panels.COUNT,
            Says(
                "Changes that a process must still apply, compared with the process that "
                "is furthest ahead.",
                "It rises: the process cannot keep up.",
                "Look at the event loop of the process, then at its link to sync.",
            ),
            Line(
                f"scalar({promql.largest(FOLLOW.series(metrics.FEED_POSITION))})"
                f" - {promql.largest(FOLLOW.series(metrics.FEED_POSITION), 'pod')}",
                "{{pod}}",
            ),
        ),
        graph(
            "Requests to sync: time to answer, 99 %",
            panels.SECONDS,
            Says(
                "99 of 100 requests to sync were answered faster than this, by frame.",
                "Load and Recall read history; they are slow when the database is slow.",
                "Compare with the steps at PostgreSQL above.",
            ),
            Line(
                OF.quantile(0.99, metrics.REQUEST_LATENCY_S, "frame"), "{{frame}}", exemplars=True
            ),
        ),
    ],
)

BOARD = Board(
    "sync",
    "Sync and PostgreSQL",
    "How fast writes are stored, and how fast changes reach the followers of the feed.",
    [_writes, _postgres, _feed, resource_rows.at_its_limit(OF)],
    [pods("sync")],
)
