"""The catalogue of all metrics of all processes.

Modules import the metric objects from here (``metrics.DECISIONS.labels(...).inc()``),
`runtime.health` serves them, docs/reference/metrics.md is generated from `CATALOGUE`, and
dashboards and alerts refer to metrics by `name`; so each metric name is written only once.  No
label holds a series, a value or a peer's id.  The names of universes and pools are chosen by users,
so their labels hold only the first few names, and ``other`` for all further names.
"""

from __future__ import annotations

from prometheus_client import PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.parser import text_string_to_metric_families

from midstreamer.telemetry import label_values
from midstreamer.telemetry.metric_builders import (
    CATALOGUE,
    LATENCY_BUCKETS_S,
    OTHER,
    REGISTRY,
    Described,
    Family,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
    histograms,
    name,
)

__all__ = ["CATALOGUE", "OTHER", "REGISTRY", "Described", "Family", "name"]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text"
OPEN_METRICS_1 = f"{OPEN_METRICS}; version=1.0.0; charset=utf-8"

# --- comparing and deciding -----------------------------------------------------------------------

PATTERN_MATCHES = counters(
    "midstreamer_pattern_matches",
    "Windows that an agent compared with history, by measure.",
    {"measure": label_values.MEASURES},
)
DTW_LATENCY_MS = histogram(
    "midstreamer_dtw_latency_ms",
    "Milliseconds that an agent's kernels took to search its shards for one window.",
    buckets=(1, 2, 5, 10, 20),
)
DECISIONS = counters(
    "midstreamer_decisions",
    "Decisions made, by outcome: LONG, SHORT, or the reason for an abstention.",
    {"outcome": label_values.OUTCOMES, "universe": label_values.UNIVERSES},
)
VERDICTS = counters(
    "midstreamer_verdicts",
    "Decisions settled, by whether the outcome was on the side that the decision favoured.",
    {"hit": label_values.HITS, "universe": label_values.UNIVERSES},
)
CONFIDENCE = counters(
    "midstreamer_settled_confidence",
    "Sum of the confidences of settled decisions. Divided by midstreamer_verdicts_total it is the"
    " share of decisions whose favoured side should have been right.",
    {"universe": label_values.UNIVERSES},
)
INTERVALS = counters(
    "midstreamer_intervals",
    "Prediction intervals settled, by whether the outcome was inside the interval.",
    {"covered": label_values.YES_NO, "universe": label_values.UNIVERSES},
)
INTERVAL_TARGET = gauges(
    "midstreamer_interval_coverage_target_ratio",
    "Share of outcomes that prediction intervals should cover, by the specification of the stream"
    " that learned last.",
    {"universe": label_values.UNIVERSES},
)
WINKLER = counters(
    "midstreamer_winkler_score",
    "Sum of the Winkler scores of settled prediction intervals, in units of each decision's scale:"
    " the width of the interval, and a penalty if it missed the outcome. Smaller is better. An"
    " unbounded interval has no score.",
    {"universe": label_values.UNIVERSES},
)
BOUNDED_INTERVALS = counters(
    "midstreamer_bounded_intervals",
    "Bounded prediction intervals settled: midstreamer_winkler_score_total is the sum over these.",
    {"universe": label_values.UNIVERSES},
)
BRIER = counters(
    "midstreamer_brier_score",
    "Sum of the Brier scores of settled decisions: the squared distance of the probability from"
    " the outcome. A probability of 0.5 scores 0.25 for each decision.",
    {"universe": label_values.UNIVERSES},
)
LICENCES = gauges(
    "midstreamer_licences",
    "Learning streams that this sync knows, by whether they hold the licence to give signals.",
    {"held": label_values.YES_NO, "universe": label_values.UNIVERSES},
)
TICKS = counters(
    "midstreamer_ticks",
    "Ticks committed, by result: stored for the first time, or repeated (stored before).",
    {"result": label_values.TICKS},
)

# --- metrics of links, requests and searches ------------------------------------------------------

HANDSHAKES = counters(
    "midstreamer_handshakes",
    "Connections whose peer was authenticated, by result: accepted, or the reason of the refusal.",
    {"result": label_values.REFUSALS | {label_values.ACCEPTED}},
)
LINKS = gauges(
    "midstreamer_links", "Open connections, by the kind of the peer.", {"kind": label_values.KINDS}
)
REFUSED_FRAMES = counters(
    "midstreamer_refused_frames",
    "Frames refused because a peer of this kind may not send them; each closed its connection.",
    {"frame": label_values.FRAMES, "kind": label_values.KINDS},
)
SKIPPED_FRAMES = counters(
    "midstreamer_skipped_frames",
    "Frames skipped because this version does not know their name, by the kind of the sender.",
    {"kind": label_values.KINDS},
)
REQUEST_LATENCY_S = histograms(
    "midstreamer_request_latency_seconds",
    "Seconds from the arrival of a request to its answer, by frame and result (ok or an error"
    " code).",
    {"frame": label_values.FRAMES, "result": label_values.CODES | {label_values.OK}},
    buckets=LATENCY_BUCKETS_S,
)
CALL_LATENCY_S = histograms(
    "midstreamer_call_latency_seconds",
    "Seconds from sending a request to receiving its answer, measured by the sender, by frame and"
    " result (ok, an error code, or cancelled).",
    {
        "frame": label_values.FRAMES,
        "result": label_values.CODES | {label_values.OK, label_values.CANCELLED},
    },
    buckets=LATENCY_BUCKETS_S,
)
QUEUE_DEPTH = gauges(
    "midstreamer_queue_depth",
    "Entries in a bounded queue, by queue.",
    {"queue": label_values.QUEUES},
)
QUEUE_CAPACITY = gauges(
    "midstreamer_queue_capacity",
    "Most entries that a bounded queue takes, by queue.",
    {"queue": label_values.QUEUES},
)
QUEUE_OLDEST_S = gauges(
    "midstreamer_queue_oldest_seconds",
    "Seconds for which the oldest entry of a bounded queue has waited, by queue; 0 when it is"
    " empty.",
    {"queue": label_values.QUEUES},
)
LOOP_LAG_S = histogram(
    "midstreamer_loop_lag_seconds",
    "Seconds by which the event loop called a timer too late; all work of a process waits as long.",
    buckets=LATENCY_BUCKETS_S,
)
CARRIER_LINKS = gauges(
    "midstreamer_carrier_links",
    "Open authenticated connections, by carrier.",
    {"carrier": label_values.CARRIERS},
)
UDP_DATAGRAMS = counters(
    "midstreamer_udp_datagrams",
    "UDP datagrams of QUIC, by direction.",
    {"direction": label_values.DIRECTIONS},
)
UDP_BYTES = counters(
    "midstreamer_udp_bytes",
    "Bytes in UDP datagrams of QUIC, by direction.",
    {"direction": label_values.DIRECTIONS},
)
UDP_DROPPED = counter(
    "midstreamer_udp_dropped_datagrams",
    "Datagrams that the operating system dropped because the socket's receive buffer was full.",
)
QUIC_RTT_S = histogram(
    "midstreamer_quic_rtt_seconds",
    "Smoothed round-trip times of open QUIC connections, each sampled every few seconds.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
)
QUIC_PACKETS = counters(
    "midstreamer_quic_packets",
    "QUIC packets, by fate: sent, declared lost, or sent again by a probe because no"
    " acknowledgement came in time.",
    {"fate": label_values.PACKET_FATES},
)
QUIC_WINDOW_BYTES = gauge(
    "midstreamer_quic_congestion_window_bytes",
    "Sum of the congestion windows of open QUIC connections: bytes that may be in flight.",
)
QUIC_IN_FLIGHT_BYTES = gauge(
    "midstreamer_quic_in_flight_bytes",
    "Bytes that are in flight on all open QUIC connections together.",
)
KERNEL_THREADS = gauge(
    "midstreamer_kernel_threads", "Threads with which this agent searches its shards."
)
KERNEL_BUSY_S = counter(
    "midstreamer_kernel_busy_seconds", "Seconds that searches kept a thread of this agent busy."
)
DISPATCH_ATTEMPTS = counters(
    "midstreamer_dispatch_attempts",
    "Searches sent to agents, by result: answered, failed, or abandoned because another replica"
    " was faster or the client cancelled its request.",
    {"result": label_values.ATTEMPTS},
)
DISPATCH_OVERDUE = counter(
    "midstreamer_dispatch_overdue",
    "Hedged searches: sent to another replica as well, because the first replica was late.",
)
SHARDS = gauges(
    "midstreamer_shards",
    "Shards that a coordinator knows, by state: all shards (total), shards held by too few agents"
    " (underreplicated), and shards held by no agent (unheld).",
    {"state": label_values.SHARD_STATES},
)

# --- storing and following ------------------------------------------------------------------------

SYNC_LATENCY_S = histograms(
    "midstreamer_sync_latency_seconds",
    "Seconds that one step of sync with PostgreSQL took, by kind: commit, feed, load.",
    {"kind": label_values.STORE_STEPS},
    buckets=LATENCY_BUCKETS_S,
)
WRITE_BATCH_ROWS = histogram(
    "midstreamer_write_batch_rows",
    "Rows (ticks, decisions and verdicts) committed together in one transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 300, 1000, 10_000),
)
POSTGRES_UP = gauge(
    "midstreamer_postgres_up", "1 while PostgreSQL answers this sync, 0 while it does not."
)
POOL_CONNECTIONS = gauges(
    "midstreamer_postgres_pool_connections",
    "Connections of this sync's pool to PostgreSQL, by state: busy or idle.",
    {"state": label_values.POOL_STATES},
)
POOL_CAPACITY = gauge(
    "midstreamer_postgres_pool_capacity",
    "Most connections that this sync's pool to PostgreSQL may open.",
)
POOL_WAIT_S = histogram(
    "midstreamer_postgres_pool_wait_seconds",
    "Seconds of waiting for a connection of the pool to PostgreSQL.",
    buckets=LATENCY_BUCKETS_S,
)
COMMITS = counters(
    "midstreamer_commits",
    "Transactions of writes, by result: committed, clashed with another transaction and retried,"
    " or failed.",
    {"result": label_values.COMMITS},
)
FEED_LAG_S = gauge(
    "midstreamer_feed_lag_seconds",
    "Seconds by which this process is behind the change feed: since it learned of a position that"
    " it has not reached, or since it stopped following the feed.",
)
FEED_POSITION = gauge(
    "midstreamer_feed_position", "Position of the change feed that this process has reached."
)
MEMBERS = gauges(
    "midstreamer_members", "Processes with a live lease, by kind.", {"kind": label_values.KINDS}
)
STAGE = gauges(
    "midstreamer_stage",
    "1 for the stage that this process is in, 0 for all other stages.",
    {"stage": label_values.STAGES},
)
COMPLETE = gauge(
    "midstreamer_complete",
    "1 while this process has all parts that it needs: shards held, sync reached. At 0 it stays"
    " ready, and refuses the requests that it cannot answer with a named error.",
)
SHARDS_HELD = gauge("midstreamer_shards_held", "Shards that this agent can answer for.")
CERTIFICATE_EXPIRY_S = gauge(
    "midstreamer_certificate_not_after_seconds",
    "When this process's certificate expires, in seconds since 1970-01-01 UTC.",
)
CERTIFICATE_BEGIN_S = gauge(
    "midstreamer_certificate_not_before_seconds",
    "When this process's certificate became valid, in seconds since 1970-01-01 UTC.",
)
CERTIFICATE_SERIAL = gauge(
    "midstreamer_certificate_serial",
    "The last 48 bits of the serial number of this process's certificate; a new certificate has a"
    " new number.",
)
AUTHORITY_EXPIRY_S = gauge(
    "midstreamer_authority_not_after_seconds",
    "When the first of the authorities that this process trusts will expire, in seconds since"
    " 1970-01-01 UTC.",
)
BUNDLE_HASH = gauge(
    "midstreamer_trust_bundle_hash",
    "The last 48 bits of the short hash of the authorities that this process trusts: the same"
    " number in all processes that trust the same authorities.",
)
SECURITY_FILE_WRONG = gauges(
    "midstreamer_security_file_wrong",
    "1 while a file is wrong and its last good content stays in force, by file: certificate,"
    " bundle, authority, allowlist; request: 1 while a process with its key in memory cannot"
    " obtain a new certificate.",
    {"file": label_values.FILES},
)
POSTGRES_CONNECTIONS = gauge(
    "midstreamer_postgres_connections",
    "Connections that the process `postgres` has open to its clients, logged in or not.",
)
OPERATOR_LEADER = gauge(
    "midstreamer_operator_leader",
    "1 while this replica of the operator is the leader: it holds the lease and works.",
)
SIGNING_REQUESTS = counters(
    "midstreamer_signing_requests",
    "Signing requests that the operator answered, by result: signed, or the reason of the denial.",
    {"result": label_values.SIGNED},
)

SIGNING_REQUESTS_WAITING = gauge(
    "midstreamer_signing_requests_waiting",
    "Signing requests that the operator could not answer in its last pass over all of them.",
)
LIVE_CERTIFICATES = gauges(
    "midstreamer_live_certificates",
    "Unexpired certificates in the ledger of the operator, by kind of identity.",
    {"kind": label_values.KINDS},
)
OPERATOR_RUNS = counters(
    "midstreamer_operator_runs",
    "Passes of the operator over all signing requests or all pools, by work and result.",
    {"work": label_values.OPERATOR_WORK, "result": label_values.RUNS},
)
OPERATOR_RUN_S = histograms(
    "midstreamer_operator_run_seconds",
    "Seconds that one pass of the operator took, by work.",
    {"work": label_values.OPERATOR_WORK},
    buckets=LATENCY_BUCKETS_S,
)
OPERATOR_LAST_OK_S = gauges(
    "midstreamer_operator_last_success_timestamp_seconds",
    "When the operator last completed a pass without failing, by work, in seconds since 1970-01-01"
    " UTC.",
    {"work": label_values.OPERATOR_WORK},
)
POOL_AGENTS = gauges(
    "midstreamer_pool_agents",
    "Agents of a pool, by state: wanted, ready.",
    {"pool": label_values.POOLS, "state": label_values.POOL_AGENTS},
)

# --- load tests -----------------------------------------------------------------------------------

LOAD_USERS = gauges(
    "midstreamer_load_users",
    "Users of a load test, by kind: quic sends frames itself, sdk uses the Client.",
    {"kind": label_values.LOAD_USERS},
)
LOAD_LATENCY_S = histograms(
    "midstreamer_load_latency_seconds",
    "Seconds from the scheduled start of a load test's request to its answer, by request and"
    " result.",
    {"request": label_values.LOAD_REQUESTS, "result": label_values.RUNS},
    buckets=LATENCY_BUCKETS_S,
)
LOAD_LATE_S = histogram(
    "midstreamer_load_late_seconds",
    "Seconds by which a load test began a request too late, because the generator was busy.",
    buckets=LATENCY_BUCKETS_S,
)
LOAD_OFFERED = gauge(
    "midstreamer_load_offered_per_second", "Requests per second that a load test is set to begin."
)
LOAD_PROCESSORS = gauge(
    "midstreamer_load_processors",
    "Processors that the generator of a load test keeps busy: 1 is one processor all the time.",
)

# --- all processes --------------------------------------------------------------------------------

BUILD = gauges(
    "midstreamer_build_info",
    "Always 1; the label is the version.",
    {"version": label_values.VERSIONS},
)
for _version in label_values.VERSIONS:
    BUILD.labels(_version).set(1)
SPANS = counters(
    "midstreamer_spans",
    "Sampled spans that ended, by result: exported, or dropped because the queue was full or the"
    " collector did not take them.",
    {"result": label_values.SPANS},
)
LOG_LINES_LEFT_OUT = counters(
    "midstreamer_log_lines_left_out",
    "Log lines left out because peers caused more of them than the rate limit, by event.",
    {"event": label_values.EVENTS_BY_PEERS},
)
TASK_FAILURES = counters(
    "midstreamer_task_failures",
    "Failures of background loops, by task.",
    {"task": label_values.TASKS},
)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)


def render() -> bytes:
    """Return all metrics in Prometheus's text format."""
    return generate_latest(REGISTRY)


def render_for(accept: str) -> tuple[bytes, str]:
    """Return (all metrics, content type) in the format that an ``Accept`` header asks for.

    Only the OpenMetrics format carries exemplars, which link a slow request to its trace.
    """
    if OPEN_METRICS not in accept.lower():
        return render(), TEXT
    text: bytes = exposition.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
    return text, OPEN_METRICS_1


def read(text: str) -> dict[str, float]:
    """Return {name: value} of the metrics without labels in a text that `render` returned.

    Raises ValueError when ``text`` is not in Prometheus's text format.
    """
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }
