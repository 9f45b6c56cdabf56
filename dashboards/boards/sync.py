"""Sync and PostgreSQL: the way of a write to the disk, and of a change to those who follow."""

from __future__ import annotations

from dashboards import panels, promql, rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, below, graph, number, spread
from dashboards.scope import FOLLOWERS, Scope
from midstreamer.telemetry import metrics

OF = Scope("sync", by_pod=True)
FOLLOW = Scope(FOLLOWERS)

_writes = Row(
    "Do writes reach the disk in time?",
    [
        spread(
            "A commit",
            panels.SECONDS,
            Says(
                "How many transactions took how long at PostgreSQL, over time.",
                "A band above 0.05 s: the disk is slow, or another transaction is in the way.",
                "Look at the database's own disk figures, and at the clashes beside.",
            ),
            OF.buckets(metrics.SYNC_LATENCY_S, kind="commit"),
        ),
        graph(
            "A write: until it is stored",
            panels.SECONDS,
            Says(
                "From the arrival of a write at sync to its answer: the turn and the commit.",
                "Far above the commit alone: writes wait for their turn.",
                "If batches are at their largest, the database is the limit; else the loop is.",
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
                "Transactions of writes each second: committed, clashed and tried again, failed.",
                "`failed` at all; `clashed` as often as committed: two syncs write the same.",
                "Failed: the log line of that time has PostgreSQL's words. Clashed: it costs time"
                " and nothing else.",
            ),
            Line(OF.rate(metrics.COMMITS, "result"), "{{result}}"),
        ),
        graph(
            "Rows committed together",
            panels.COUNT,
            Says(
                "How many ticks, decisions and verdicts one transaction holds: half held fewer"
                " than the lower line.",
                "There is no bad value. Large ones say that writes come faster than commits.",
                "Compare with the time of a commit.",
            ),
            Line(OF.quantile(0.99, metrics.WRITE_BATCH_ROWS), "99 %"),
            Line(OF.quantile(0.5, metrics.WRITE_BATCH_ROWS), "50 %"),
        ),
        graph(
            "Ticks",
            panels.PER_S,
            Says(
                "Ticks each second: stored, or repeated, which were stored before.",
                "Mostly repeated: clients append the same twice, as after a lost answer.",
                "Do clients see their answers? Look at links and losses on Transport.",
            ),
            Line(OF.rate(metrics.TICKS, "result"), "{{result}}"),
        ),
        graph(
            "Writes that wait for their turn",
            panels.SHARE,
            Says(
                "How full the queue of writes is.",
                "Near 1: the next write is refused as overloaded.",
                "The database is the limit when commits are slow; add no sync then, it would only"
                " clash more.",
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
                "1 while PostgreSQL answers this sync.",
                "0: nothing is stored, and appends are refused as unavailable.",
                "Does the database run? `docs/how-to/database.md` says how to look.",
            ),
            Line(OF.smallest(metrics.POSTGRES_UP, "pod"), "{{pod}}"),
            limits=below(1),
            width=6,
        ),
        number(
            "Connections, evaluation database",
            panels.COUNT,
            Says(
                "Connections that the process `postgres` of the fleet has open. Empty where you"
                " brought a database of your own.",
                "As many as it takes at most: the next is refused.",
                "Each sync has a pool; lower its size or raise the database's.",
            ),
            Line(Scope("postgres").total(metrics.POSTGRES_CONNECTIONS), "open"),
            width=6,
        ),
        graph(
            "Connections in use",
            panels.COUNT,
            Says(
                "Connections of the pool by state, beside what it has at most.",
                "Busy at the most for minutes: reads and writes wait for each other.",
                "Raise `pool` in the settings of sync, if the database has connections left.",
            ),
            Line(OF.total(metrics.POOL_CONNECTIONS, "state"), "{{state}}"),
            Line(OF.total(metrics.POOL_CAPACITY), "at most"),
        ),
        graph(
            "Waiting for a connection",
            panels.SECONDS,
            Says(
                "How long something waited for a connection of the pool.",
                "Above 0.05 s: the pool is too small or a statement too slow.",
                "`pg_stat_activity` shows what is being done on them.",
            ),
            Line(OF.quantile(0.99, metrics.POOL_WAIT_S, "pod"), "{{pod}} 99 %"),
            limits=above(0.05),
        ),
        graph(
            "Steps between memory and PostgreSQL, 99 %",
            panels.SECONDS,
            Says(
                "99 in a hundred steps were faster: commit, reading the feed, loading a shard.",
                "`load` of seconds: a new agent waits for its shards.",
                "Does the database read from its disk, or from memory?",
            ),
            Line(OF.quantile(0.99, metrics.SYNC_LATENCY_S, "kind"), "{{kind}}"),
        ),
    ],
)

_feed = Row(
    "Does the feed reach those who follow?",
    [
        graph(
            "Changes of the feed",
            panels.PER_S,
            Says(
                "How fast the position of the feed rises, at the sync that is furthest.",
                "Nothing while transactions are committed.",
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
                "For how long the one that is furthest behind has not known that it has all.",
                "Sync itself: PostgreSQL is slow or out of reach. Others: links or loops.",
                "The boards of agents and coordinators show each process.",
            ),
            Line(FOLLOW.largest(metrics.FEED_LAG_S, "component"), "{{component}}"),
            limits=above(10, warn=3),
        ),
        graph(
            "Distance from the furthest",
            panels.COUNT,
            Says(
                "Changes that a process has yet to take in, compared with the one that is"
                " furthest.",
                "It rises: that process does not keep up.",
                "Its event loop, then its link to sync.",
            ),
            Line(
                f"scalar({promql.largest(FOLLOW.series(metrics.FEED_POSITION))})"
                f" - {promql.largest(FOLLOW.series(metrics.FEED_POSITION), 'pod')}",
                "{{pod}}",
            ),
        ),
        graph(
            "What sync is asked, until the answer, 99 %",
            panels.SECONDS,
            Says(
                "99 in a hundred requests to sync were answered faster, by what was asked.",
                "Load and Recall are reads of history, and slow when the database is.",
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
    "The way of a write to the disk, and of a change to those who follow.",
    [_writes, _postgres, _feed, rows.at_its_limit(OF)],
    [pods("sync")],
)
