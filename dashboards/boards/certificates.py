"""Certificates and the operator: when something expires, who trusts what, and who signs."""

from __future__ import annotations

from dashboards import panels, promql, rows
from dashboards.board import Board, Row
from dashboards.panels import Column, Line, Says, above, below, graph, listing, number
from dashboards.scope import Scope
from midstreamer.telemetry import metrics

ALL = Scope(promql.none_of("loadtest"))
"""Without load tests, which may be of another fleet."""
OF = Scope("operator")
HOUR, DAY = 3600.0, 86_400.0

_ENDS = promql.smallest(ALL.known(metrics.CERTIFICATE_EXPIRY_S), "pod")
_BEGAN = promql.smallest(ALL.known(metrics.CERTIFICATE_BEGIN_S), "pod")
_LEFT = promql.ratio(f"({_ENDS} - time())", f"({_ENDS} - {_BEGAN})")

_expires = Row(
    "When does something expire?",
    [
        number(
            "First certificate",
            panels.SECONDS,
            Says(
                "How long the certificate of the process that is worst off is still valid.",
                "Below an hour.",
                "The graph beside names the process; then the row “Is everything renewed”.",
            ),
            Line(f"{promql.smallest(ALL.known(metrics.CERTIFICATE_EXPIRY_S))} - time()", "left"),
            limits=below(HOUR, good=4 * HOUR),
        ),
        number(
            "First authority",
            panels.SECONDS,
            Says(
                "How long the first of the authorities that some process trusts is still valid.",
                "Below 30 days: a new one must be trusted everywhere before.",
                "docs/how-to/certificates.md says how an authority is followed by another.",
            ),
            Line(f"{promql.smallest(ALL.known(metrics.AUTHORITY_EXPIRY_S))} - time()", "left"),
            limits=below(7 * DAY, good=30 * DAY),
        ),
        graph(
            "Life left of each certificate",
            panels.SHARE,
            Says(
                "What is left of the life of each process's certificate: 1 when it is new. It"
                " falls, and jumps up when the certificate is renewed.",
                "Below 20 %: renewal is late.",
                "Files: who writes them? Keys in memory: the row “Does the operator sign”.",
            ),
            Line(_LEFT, "{{pod}}"),
            limits=below(0.1, good=0.2),
            width=16,
            most=1,
        ),
    ],
)

_trust = Row(
    "Is everything renewed, and does everyone trust the same?",
    [
        number(
            "Different bundles",
            panels.COUNT,
            Says(
                "How many different sets of authorities the processes trust.",
                "2 for longer than a change of the authority takes.",
                "The table names who trusts which; the file of that process was not updated.",
            ),
            Line(
                promql.number_of(f'count_values("bundle", {ALL.known(metrics.BUNDLE_HASH)})'),
                "bundles",
            ),
            limits=above(2),
        ),
        number(
            "Files that are wrong",
            panels.COUNT,
            Says(
                "Files that are wrong while what was loaded before stays in force, by file.",
                "Any: the next restart would fail.",
                "The log line of the process names the file and what is wrong with it.",
            ),
            Line(ALL.total(metrics.SECURITY_FILE_WRONG, "file"), "{{file}}"),
            limits=above(1),
            width=20,
        ),
        listing(
            "Each process's certificate",
            Says(
                "How long it is valid, the end of its serial number, and a number for the bundle"
                " that the process trusts.",
                "A bundle unlike the others; a time that is short.",
                "`midstreamer status` shows the whole hash and serial.",
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
                "Signing requests each second, by result: signed, or why not.",
                "A reason that goes on: a pod asks for what it may not have.",
                "`kubectl get csr` shows the request with the operator's words.",
            ),
            Line(OF.rate(metrics.SIGNING_REQUESTS, "result"), "{{result}}"),
        ),
        number(
            "Requests not answered",
            panels.COUNT,
            Says(
                "Signing requests that waited when the operator last looked at all.",
                "Any for minutes.",
                "Does an operator lead, below? Its log names what it could not answer.",
            ),
            Line(OF.largest(metrics.SIGNING_REQUESTS_WAITING), "waiting"),
            limits=above(1),
        ),
        number(
            "Certificates alive",
            panels.COUNT,
            Says(
                "Certificates in the operator's ledger that have not expired, by kind.",
                "Far more than processes: something asks again and again.",
                "The ledger is a ConfigMap: docs/explanation/security-in-a-cluster.md.",
            ),
            Line(OF.largest(metrics.LIVE_CERTIFICATES, "kind"), "{{kind}}"),
            width=8,
        ),
    ],
)

_works = Row(
    "Does an operator work?",
    [
        number(
            "Operators that lead",
            panels.COUNT,
            Says(
                "Replicas that hold the lease and work.",
                "0 for longer than a lease; 2 would be a fault.",
                "`kubectl get lease` names the holder; look at its log.",
            ),
            Line(OF.total(metrics.OPERATOR_LEADER), "lead"),
            limits=below(1),
        ),
        number(
            "Since the last success",
            panels.SECONDS,
            Says(
                "Time since the operator last went over something without failing, by what.",
                "Above ten minutes.",
                "Runs that failed beside? Its log line has the API server's words.",
            ),
            Line(f"time() - {OF.largest(metrics.OPERATOR_LAST_OK_S, 'work')}", "{{work}}"),
            limits=above(600, warn=180),
            width=8,
        ),
        graph(
            "Runs",
            panels.PER_S,
            Says(
                "Times each second that the operator went over something, by what and result.",
                "`failed` more than now and then.",
                "Its log has the reason; mostly the API server was away.",
            ),
            Line(OF.rate(metrics.OPERATOR_RUNS, "work", "result"), "{{work}} {{result}}"),
        ),
        graph(
            "How long a run takes, 99 %",
            panels.SECONDS,
            Says(
                "Of a hundred times of going over something 99 were faster, by what.",
                "Above 5 s: what changes meanwhile waits so long.",
                "Is the API server slow? `kubectl get --raw /readyz?verbose` says how it is.",
            ),
            Line(OF.quantile(0.99, metrics.OPERATOR_RUN_S, "work"), "{{work}}"),
        ),
        rows.memory(OF),
    ],
)

BOARD = Board(
    "certificates",
    "Certificates and operator",
    "When something expires, who trusts what, and whether the operator works.",
    [_expires, _trust, _signs, _works],
    shows="now-6h",
)
