"""Dashboard Certificates and operator: expiry, trusted authorities, signing, operator runs."""

from __future__ import annotations

from dashboards import panels, promql, resource_rows
from dashboards.board import Board, Row
from dashboards.panels import Column, Line, Says, above, below, graph, listing, number
from dashboards.query_scope import Scope
from midstreamer.telemetry import metrics

ALL = Scope(promql.none_of("loadtest"))
"""All processes in the namespace except those of load tests.

A load test may have its certificates from a fleet in another namespace.
"""
OF = Scope("operator")
HOUR, DAY = 3600.0, 86_400.0

_ENDS = promql.smallest(ALL.known(metrics.CERTIFICATE_EXPIRY_S), "pod")
_BEGAN = promql.smallest(ALL.known(metrics.CERTIFICATE_BEGIN_S), "pod")
_LEFT = promql.ratio(f"({_ENDS} - time())", f"({_ENDS} - {_BEGAN})")

_expires = Row(
    "When does a certificate or an authority expire?",
    [
        number(
            "Next certificate expiry",
            panels.SECONDS,
            Says(
                "Time until the first certificate of a process expires.",
                "Below one hour.",
                "The graph next to it names the process. Then look at the row “Are "
                "certificates renewed, and do all processes trust the same authorities”.",
            ),
            Line(
                f"{promql.smallest(ALL.known(metrics.CERTIFICATE_EXPIRY_S))} - time()", "time left"
            ),
            limits=below(HOUR, good=4 * HOUR),
        ),
        number(
            "Next authority expiry",
            panels.SECONDS,
            Says(
                "Time until the first certificate authority that a process trusts expires.",
                "Below 30 days: every process must trust a new authority before.",
                "docs/how-to/certificates.md describes how to replace an authority.",
            ),
            Line(f"{promql.smallest(ALL.known(metrics.AUTHORITY_EXPIRY_S))} - time()", "time left"),
            limits=below(7 * DAY, good=30 * DAY),
        ),
        graph(
            "Share of validity left, by process",
            panels.SHARE,
            Says(
                "Share of the validity of each process's certificate that is left; 1 for "
                "a new certificate. It falls, and jumps up when the certificate is "
                "renewed.",
                "Below 20 %: renewal is late.",
                "For certificates in files, check the program that writes them. For keys "
                "in memory, look at the row “Does the operator sign”.",
            ),
            Line(_LEFT, "{{pod}}"),
            limits=below(0.1, good=0.2),
            width=16,
            most=1,
        ),
    ],
)

_trust = Row(
    "Are certificates renewed, and do all processes trust the same authorities?",
    [
        number(
            "Different bundles",
            panels.COUNT,
            Says(
                "Number of different sets of authorities (bundles) that processes trust.",
                "2 for longer than replacing the authority takes.",
                "The table shows which process trusts which bundle. The file of the odd "
                "process was not updated.",
            ),
            Line(
                promql.number_of(f'count_values("bundle", {ALL.known(metrics.BUNDLE_HASH)})'),
                "bundles",
            ),
            limits=above(2),
        ),
        number(
            "Invalid security files",
            panels.COUNT,
            Says(
                "Security files that are invalid, by file. The process continues with "
                "the version that it loaded before.",
                "Any: the process would fail at its next restart.",
                "The log line of the process names the file and the error in it.",
            ),
            Line(ALL.total(metrics.SECURITY_FILE_WRONG, "file"), "{{file}}"),
            limits=above(1),
            width=20,
        ),
        listing(
            "Each process's certificate",
            Says(
                "How long the certificate is valid, the end of its serial number, and a "
                "number that identifies the bundle that the process trusts.",
                "A bundle that differs from the others, or a short time.",
                "`midstreamer status` shows the whole hash and serial number.",
            ),
            "pod",
            Column(
                "valid for",
                panels.SECONDS,
                f"{_ENDS} - time()",
                below(HOUR, good=4 * HOUR),
            ),
            Column(
                "serial", panels.PLAIN, promql.largest(ALL.known(metrics.CERTIFICATE_SERIAL), "pod")
            ),
            Column("bundle", panels.PLAIN, promql.largest(ALL.known(metrics.BUNDLE_HASH), "pod")),
        ),
    ],
)

_signs = Row(
    "Does the operator sign?",
    [
        graph(
            "Signing requests answered",
            panels.PER_S,
            Says(
                "Signing requests per second that the operator answered, by result: "
                "signed, or the reason of the denial.",
                "A reason that continues: a pod requests what it is not allowed to have.",
                "`kubectl get csr` shows the request and the message of the operator.",
            ),
            Line(OF.rate(metrics.SIGNING_REQUESTS, "result"), "{{result}}"),
        ),
        number(
            "Unanswered requests",
            panels.COUNT,
            Says(
                "Signing requests without an answer when the operator last looked.",
                "Any for minutes.",
                "Check below whether an operator leads. Its log names the requests that "
                "it could not answer.",
            ),
            Line(OF.largest(metrics.SIGNING_REQUESTS_WAITING), "waiting"),
            limits=above(1),
        ),
        number(
            "Valid certificates",
            panels.COUNT,
            Says(
                "Certificates in the ledger of the operator that have not expired, by "
                "kind of identity.",
                "Far more than there are processes: a process requests certificates "
                "again and again.",
                "The ledger is a ConfigMap: see docs/explanation/security-in-a-cluster.md.",
            ),
            Line(OF.largest(metrics.LIVE_CERTIFICATES, "kind"), "{{kind}}"),
            width=8,
        ),
    ],
)

_works = Row(
    "Does the operator work?",
    [
        number(
            "Operators that lead",
            panels.COUNT,
            Says(
                "Replicas of the operator that hold the lease and work.",
                "0 for longer than a lease lasts. 2 at the same time is a bug.",
                "`kubectl get lease` names the holder. Look at its log.",
            ),
            Line(OF.total(metrics.OPERATOR_LEADER), "leaders"),
            limits=below(1),
        ),
        number(
            "Since the last success",
            panels.SECONDS,
            Says(
                "Time since the operator last completed each of its tasks without an error.",
                "Above ten minutes.",
                "Look at the failed runs next to it. The log of the operator has the "
                "message of the API server.",
            ),
            Line(f"time() - {OF.largest(metrics.OPERATOR_LAST_OK_S, 'work')}", "{{work}}"),
            limits=above(600, warn=180),
            width=8,
        ),
        graph(
            "Runs of the operator",
            panels.PER_S,
            Says(
                "Runs of the operator's tasks per second, by task and result.",
                "`failed` more often than now and then.",
                "The log of the operator has the reason; often the API server was not reachable.",
            ),
            Line(OF.rate(metrics.OPERATOR_RUNS, "work", "result"), "{{work}} {{result}}"),
        ),
        graph(
            "Duration of a run, 99 %",
            panels.SECONDS,
            Says(
                "99 of 100 runs of a task were faster than this, by task.",
                "Above 5 s: changes wait as long until the operator sees them.",
                "Check whether the API server is slow: `kubectl get --raw /readyz?verbose`.",
            ),
            Line(OF.quantile(0.99, metrics.OPERATOR_RUN_S, "work"), "{{work}}"),
        ),
        resource_rows.memory(OF),
    ],
)

BOARD = Board(
    "certificates",
    "Certificates and operator",
    "When certificates expire, which authorities are trusted, and whether the operator works.",
    [_expires, _trust, _signs, _works],
    shows="now-6h",
)
