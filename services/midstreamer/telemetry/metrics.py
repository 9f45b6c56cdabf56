"""Every metric of every process: the one catalogue of names.

Modules take the objects from here (``metrics.DECISIONS.labels(...).inc()``), `runtime.health`
serves them, docs/reference/metrics.md is generated from `CATALOGUE`, and dashboards and alerts ask
for them by `name`; so a name is spelled once.  No label holds a series, a value or a peer's id.
Universes and pools are named by people: a label holds the first few of them, and ``other`` for
the rest.
"""

from __future__ import annotations

from prometheus_client import PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.parser import text_string_to_metric_families

from midstreamer.telemetry import words
from midstreamer.telemetry.families import (
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
    "Windows compared with history, by measure.",
    {"measure": words.MEASURES},
)
DTW_LATENCY_MS = histogram(
    "midstreamer_dtw_latency_ms",
    "Milliseconds one search of an agent's shards took in the kernels, one window.",
    buckets=(1, 2, 5, 10, 20),
)
DECISIONS = counters(
    "midstreamer_decisions",
    "Decisions made, by outcome: LONG, SHORT, or the reason for silence.",
    {"outcome": words.OUTCOMES, "universe": words.UNIVERSES},
)
VERDICTS = counters(
    "midstreamer_verdicts",
    "Decisions settled, by whether the favoured side came.",
    {"hit": words.HITS, "universe": words.UNIVERSES},
)
CONFIDENCE = counters(
    "midstreamer_settled_confidence",
    "Sum of the confidences of settled decisions: over midstreamer_verdicts_total it is how often"
    " the favoured side should have come.",
    {"universe": words.UNIVERSES},
)
INTERVALS = counters(
    "midstreamer_intervals",
    "Prediction intervals settled, by whether the outcome lay inside.",
    {"covered": words.YES_NO, "universe": words.UNIVERSES},
)
INTERVAL_TARGET = gauges(
    "midstreamer_interval_coverage_target_ratio",
    "Share of outcomes that should lie inside, as asked by the specification that learned last.",
    {"universe": words.UNIVERSES},
)
WINKLER = counters(
    "midstreamer_winkler_score",
    "Sum of the Winkler scores of settled prediction intervals, in units of each decision's scale:"
    " its width, and a penalty for what it missed. Smaller is better. One without an end has none.",
    {"universe": words.UNIVERSES},
)
BOUNDED_INTERVALS = counters(
    "midstreamer_bounded_intervals",
    "Prediction intervals settled that had two ends: midstreamer_winkler_score_total is of these.",
    {"universe": words.UNIVERSES},
)
BRIER = counters(
    "midstreamer_brier_score",
    "Sum of the Brier scores of settled decisions: the squared distance of the probability from"
    " what came. 0.25 for each is what a coin has.",
    {"universe": words.UNIVERSES},
)
LICENCES = gauges(
    "midstreamer_licences",
    "Learning streams by whether they hold the licence to give signals, as this sync knows them.",
    {"held": words.YES_NO, "universe": words.UNIVERSES},
)
TICKS = counters(
    "midstreamer_ticks",
    "Ticks committed: stored, or repeated, which were stored before.",
    {"result": words.TICKS},
)

# --- talking --------------------------------------------------------------------------------------

HANDSHAKES = counters(
    "midstreamer_handshakes",
    "Connections judged, by result: accepted, or the reason of the refusal.",
    {"result": words.REFUSALS | {words.ACCEPTED}},
)
LINKS = gauges(
    "midstreamer_links", "Open connections, by the kind of the peer.", {"kind": words.KINDS}
)
REFUSED_FRAMES = counters(
    "midstreamer_refused_frames",
    "Frames that a peer of this kind may not send; each closed its connection.",
    {"frame": words.FRAMES, "kind": words.KINDS},
)
SKIPPED_FRAMES = counters(
    "midstreamer_skipped_frames",
    "Frames of a name that this version does not know, by the kind of peer that sent them.",
    {"kind": words.KINDS},
)
REQUEST_LATENCY_S = histograms(
    "midstreamer_request_latency_seconds",
    "Seconds from a request's arrival to its answer, by frame and result (ok or an error code).",
    {"frame": words.FRAMES, "result": words.CODES | {words.OK}},
    buckets=LATENCY_BUCKETS_S,
)
CALL_LATENCY_S = histograms(
    "midstreamer_call_latency_seconds",
    "Seconds from sending a request to its answer, as the process that asked saw it, by frame and"
    " result (ok, an error code, or cancelled).",
    {"frame": words.FRAMES, "result": words.CODES | {words.OK, words.CANCELLED}},
    buckets=LATENCY_BUCKETS_S,
)
QUEUE_DEPTH = gauges(
    "midstreamer_queue_depth",
    "Things waiting in a bounded queue, by queue.",
    {"queue": words.QUEUES},
)
QUEUE_CAPACITY = gauges(
    "midstreamer_queue_capacity",
    "Things that a bounded queue takes at most, by queue.",
    {"queue": words.QUEUES},
)
QUEUE_OLDEST_S = gauges(
    "midstreamer_queue_oldest_seconds",
    "Seconds that the oldest thing in a bounded queue has waited, by queue; 0 when it is empty.",
    {"queue": words.QUEUES},
)
LOOP_LAG_S = histogram(
    "midstreamer_loop_lag_seconds",
    "How much later than asked the event loop woke a timer: everything of a process waits so long.",
    buckets=LATENCY_BUCKETS_S,
)
CARRIER_LINKS = gauges(
    "midstreamer_carrier_links",
    "Open connections that were judged, by carrier.",
    {"carrier": words.CARRIERS},
)
UDP_DATAGRAMS = counters(
    "midstreamer_udp_datagrams",
    "Datagrams of QUIC, by direction.",
    {"direction": words.DIRECTIONS},
)
UDP_BYTES = counters(
    "midstreamer_udp_bytes",
    "Bytes in datagrams of QUIC, by direction.",
    {"direction": words.DIRECTIONS},
)
UDP_DROPPED = counter(
    "midstreamer_udp_dropped_datagrams",
    "Datagrams that the kernel dropped because the receive buffer of our socket was full.",
)
QUIC_RTT_S = histogram(
    "midstreamer_quic_rtt_seconds",
    "Smoothed round-trip times of open QUIC connections, each sampled every few seconds.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
)
QUIC_PACKETS = counters(
    "midstreamer_quic_packets",
    "QUIC packets that were sent, those of them that were declared lost, and those that a probe"
    " repeated because no acknowledgement came in time.",
    {"fate": words.PACKET_FATES},
)
QUIC_WINDOW_BYTES = gauge(
    "midstreamer_quic_congestion_window_bytes",
    "Bytes that open QUIC connections may have under way together.",
)
QUIC_IN_FLIGHT_BYTES = gauge(
    "midstreamer_quic_in_flight_bytes",
    "Bytes that open QUIC connections have under way together.",
)
KERNEL_THREADS = gauge(
    "midstreamer_kernel_threads", "Threads that this agent searches its shards with."
)
KERNEL_BUSY_S = counter(
    "midstreamer_kernel_busy_seconds", "Seconds that searches kept a thread of this agent busy."
)
DISPATCH_ATTEMPTS = counters(
    "midstreamer_dispatch_attempts",
    "Searches sent to agents, by what became of them: answered, failed, or abandoned because"
    " another replica was faster or the asker left.",
    {"result": words.ATTEMPTS},
)
DISPATCH_OVERDUE = counter(
    "midstreamer_dispatch_overdue",
    "Searches that were sent to another replica too, because the first was late.",
)
SHARDS = gauges(
    "midstreamer_shards",
    "Shards that a coordinator knows: all of them (total), those that fewer agents hold than"
    " should (underreplicated), and those that none holds (unheld).",
    {"state": words.SHARD_STATES},
)

# --- storing and following ------------------------------------------------------------------------

SYNC_LATENCY_S = histograms(
    "midstreamer_sync_latency_seconds",
    "Seconds of one step between memory and PostgreSQL, by kind: commit, feed, load.",
    {"kind": words.STORE_STEPS},
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
    {"state": words.POOL_STATES},
)
POOL_CAPACITY = gauge(
    "midstreamer_postgres_pool_capacity",
    "Connections that this sync's pool to PostgreSQL has at most.",
)
POOL_WAIT_S = histogram(
    "midstreamer_postgres_pool_wait_seconds",
    "Seconds that something waited for a connection of the pool to PostgreSQL.",
    buckets=LATENCY_BUCKETS_S,
)
COMMITS = counters(
    "midstreamer_commits",
    "Transactions of writes: committed, clashed with another and tried again, or failed.",
    {"result": words.COMMITS},
)
FEED_LAG_S = gauge(
    "midstreamer_feed_lag_seconds",
    "Seconds since this process last knew that it had everything which the feed has.",
)
FEED_POSITION = gauge(
    "midstreamer_feed_position", "Position of the change feed that this process has reached."
)
MEMBERS = gauges(
    "midstreamer_members", "Processes with a live lease, by kind.", {"kind": words.KINDS}
)
STAGE = gauges(
    "midstreamer_stage",
    "1 for the stage in which this process is, 0 for the others.",
    {"stage": words.STAGES},
)
COMPLETE = gauge(
    "midstreamer_complete",
    "1 while every part that this process needs is there: shards held, sync reached. 0 does not"
    " make it unready: it refuses by name what it cannot answer.",
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
    "The last 48 bits of the serial number of this process's certificate: it changes with each.",
)
AUTHORITY_EXPIRY_S = gauge(
    "midstreamer_authority_not_after_seconds",
    "When the first of the authorities that this process trusts expires, in seconds since"
    " 1970-01-01 UTC.",
)
BUNDLE_HASH = gauge(
    "midstreamer_trust_bundle_hash",
    "The last 48 bits of the short hash of the authorities that this process trusts: the same"
    " number everywhere when all trust the same.",
)
SECURITY_FILE_WRONG = gauges(
    "midstreamer_security_file_wrong",
    "1 while a file is wrong and what was loaded from it before stays in force, by file:"
    " certificate, bundle, authority, allowlist; request, where the key is in memory, while no"
    " new certificate was obtained.",
    {"file": words.FILES},
)
POSTGRES_CONNECTIONS = gauge(
    "midstreamer_postgres_connections",
    "Connections that the process `postgres` has open to its clients, logged in or not.",
)
OPERATOR_LEADER = gauge(
    "midstreamer_operator_leader",
    "1 while this replica of the operator leads, that is, holds the lease and works.",
)
SIGNING_REQUESTS = counters(
    "midstreamer_signing_requests",
    "Signing requests that the operator answered, by result: signed, or why not.",
    {"result": words.SIGNED},
)

SIGNING_REQUESTS_WAITING = gauge(
    "midstreamer_signing_requests_waiting",
    "Signing requests without an answer, when the operator last looked at all.",
)
LIVE_CERTIFICATES = gauges(
    "midstreamer_live_certificates",
    "Certificates in the ledger of the operator that have not expired, by kind of identity.",
    {"kind": words.KINDS},
)
OPERATOR_RUNS = counters(
    "midstreamer_operator_runs",
    "Times the operator went over something, by what and result.",
    {"work": words.OPERATOR_WORK, "result": words.RUNS},
)
OPERATOR_RUN_S = histograms(
    "midstreamer_operator_run_seconds",
    "Seconds that one time of going over something took, by what.",
    {"work": words.OPERATOR_WORK},
    buckets=LATENCY_BUCKETS_S,
)
OPERATOR_LAST_OK_S = gauges(
    "midstreamer_operator_last_success_timestamp_seconds",
    "When the operator last went over something without failing, in seconds since 1970-01-01 UTC.",
    {"work": words.OPERATOR_WORK},
)
POOL_AGENTS = gauges(
    "midstreamer_pool_agents",
    "Agents of a pool, by state: wanted, ready.",
    {"pool": words.POOLS, "state": words.POOL_AGENTS},
)

# --- load tests -----------------------------------------------------------------------------------

LOAD_USERS = gauges(
    "midstreamer_load_users",
    "Users of a load test, by kind: quic speaks frames itself, sdk uses the Client.",
    {"kind": words.LOAD_USERS},
)
LOAD_LATENCY_S = histograms(
    "midstreamer_load_latency_seconds",
    "Seconds from the moment a request of a load test should have begun to its answer, by request"
    " and result.",
    {"request": words.LOAD_REQUESTS, "result": words.RUNS},
    buckets=LATENCY_BUCKETS_S,
)
LOAD_LATE_S = histogram(
    "midstreamer_load_late_seconds",
    "How much later than it should a load test began a request, because the generator was busy.",
    buckets=LATENCY_BUCKETS_S,
)
LOAD_OFFERED = gauge(
    "midstreamer_load_offered_per_second", "Requests that a load test means to begin each second."
)
LOAD_PROCESSORS = gauge(
    "midstreamer_load_processors",
    "Processors that the generator of a load test keeps busy itself: 1 is one, all the time.",
)

# --- all of them ----------------------------------------------------------------------------------

BUILD = gauges(
    "midstreamer_build_info", "Always 1; the label is the version.", {"version": words.VERSIONS}
)
for _version in words.VERSIONS:
    BUILD.labels(_version).set(1)
SPANS = counters(
    "midstreamer_spans",
    "Spans that ended and were sampled, by what became of them: exported, or dropped because the"
    " queue was full or the collector did not take them.",
    {"result": words.SPANS},
)
LOG_LINES_LEFT_OUT = counters(
    "midstreamer_log_lines_left_out",
    "Log lines not written because a peer caused more of them than are written, by event.",
    {"event": words.EVENTS_BY_PEERS},
)
TASK_FAILURES = counters(
    "midstreamer_task_failures", "Background loops that failed, by task.", {"task": words.TASKS}
)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)


def render() -> bytes:
    """Everything in Prometheus's text format."""
    return generate_latest(REGISTRY)


def render_for(accept: str) -> tuple[bytes, str]:
    """Everything, with its content type, in the format that an ``Accept`` header asks for.

    Exemplars, which lead from a slow request to its trace, are in the OpenMetrics format alone.
    """
    if OPEN_METRICS not in accept.lower():
        return render(), TEXT
    text: bytes = exposition.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
    return text, OPEN_METRICS_1


def read(text: str) -> dict[str, float]:
    """The values without labels of what `render` made; ValueError when it is no such text."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }
