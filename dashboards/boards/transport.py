"""Dashboard Transport: open and refused connections, lost packets, and how much is sent."""

from __future__ import annotations

from dashboards import panels, promql, resource_rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, graph, number, spread
from dashboards.query_scope import Scope
from midstreamer.telemetry import label_values, metrics

OF = Scope(by_pod=True)

_connected = Row(
    "Which peers are connected?",
    [
        graph(
            "Open connections, by kind of peer",
            panels.COUNT,
            Says(
                "Accepted connections that are open, by kind of the peer.",
                "A kind falls to 0; the number of clients rises without end.",
                "0: check on the dashboard Fleet whether the component runs. Without "
                "end: clients do not close connections; the limit per identity will "
                "refuse them.",
            ),
            Line(OF.total(metrics.LINKS, "kind"), "{{kind}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Open connections, by carrier",
            panels.COUNT,
            Says(
                "Accepted connections that are open, by carrier: QUIC, or WebSocket "
                "where UDP is blocked.",
                "WebSocket rises while QUIC falls: a device in the network drops UDP.",
                "See docs/how-to/networks-without-udp.md.",
            ),
            Line(OF.total(metrics.CARRIER_LINKS, "carrier"), "{{carrier}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Connections accepted",
            panels.PER_S,
            Says(
                "Connections accepted per second, by component.",
                "Many for longer than a rollout takes: peers lose their connections and reconnect.",
                "Look at the losses below, and at restarts on the dashboard Fleet.",
            ),
            Line(
                OF.rate(metrics.HANDSHAKES, "component", result=label_values.ACCEPTED),
                "{{component}}",
            ),
            width=8,
        ),
    ],
)

_refused = Row(
    "Which connections are refused, and why?",
    [
        graph(
            "Refused connections",
            panels.PER_S,
            Says(
                "Connections per second that were refused, by component and reason.",
                "`not_allowed`: the peer has a valid certificate but is on no allowlist.",
                "The log line `handshake.failed` names the peer; SECURITY.md explains the reasons.",
            ),
            Line(
                OF.rate(
                    metrics.HANDSHAKES,
                    "component",
                    "result",
                    result=promql.none_of(label_values.ACCEPTED),
                ),
                "{{component}} {{result}}",
            ),
        ),
        number(
            "Share refused",
            panels.SHARE,
            Says(
                "Refused connections as share of all attempts.",
                "Above 10 %, unless the attempts come from outside and should fail.",
                "Look at the reasons in the graph of refused connections.",
            ),
            Line(
                promql.ratio(
                    promql.or_zero(
                        OF.rate(metrics.HANDSHAKES, result=promql.none_of(label_values.ACCEPTED))
                    ),
                    OF.rate(metrics.HANDSHAKES),
                ),
                "refused",
            ),
            limits=above(0.5, warn=0.1),
        ),
        number(
            "Frames not allowed",
            panels.COUNT,
            Says(
                "Frames within the last hour that a peer of this kind is not allowed to "
                "send. Each closed its connection.",
                "Any: the peer is not what it claims to be, or it uses an unknown "
                "version of the protocol.",
                "The log line `frame.refused` names the peer.",
            ),
            Line(
                promql.or_zero(OF.increase(metrics.REFUSED_FRAMES, "1h", "kind")),
                "{{kind}}",
            ),
            decimals=0,
            limits=above(1),
        ),
        number(
            "Frames of newer versions",
            panels.COUNT,
            Says(
                "Frames within the last hour whose name this version does not know. They "
                "were skipped.",
                "Many after a rollout: one side still runs the previous version.",
                "`midstreamer status` shows the version of each process.",
            ),
            Line(
                promql.or_zero(OF.increase(metrics.SKIPPED_FRAMES, "1h", "kind")),
                "{{kind}}",
            ),
            decimals=0,
        ),
    ],
)

_path = Row(
    "Is the network path good?",
    [
        spread(
            "Round trips of QUIC",
            panels.SECONDS,
            Says(
                "Smoothed round-trip times of open connections, sampled every few seconds.",
                "A second band far above the first: some peers are far away, or behind a "
                "full queue of the network.",
                "Choose pods at the top of the dashboard to find the affected side.",
            ),
            OF.buckets(metrics.QUIC_RTT_S),
        ),
        graph(
            "Packets lost",
            panels.SHARE,
            Says(
                "QUIC packets declared lost, as share of those sent, by pod; and packets "
                "that a probe repeated because no acknowledgement came in time. Probes "
                "also go to refused peers that have left, and to peers on busy machines "
                "that answer late.",
                "Losses above 1 %: everything waits for retransmissions.",
                "Look below for datagrams that our own sockets dropped, and at the event "
                "loops. If both are fine, the network is the cause: compare the pods of "
                "a node.",
            ),
            Line(
                promql.ratio(
                    OF.rate(metrics.QUIC_PACKETS, "pod", fate="lost"),
                    OF.rate(metrics.QUIC_PACKETS, "pod", fate="sent"),
                ),
                "{{pod}} lost",
            ),
            Line(
                promql.ratio(
                    OF.rate(metrics.QUIC_PACKETS, "pod", fate="probed"),
                    OF.rate(metrics.QUIC_PACKETS, "pod", fate="sent"),
                ),
                "{{pod}} probed",
            ),
            limits=above(0.01, warn=0.001),
        ),
        graph(
            "Bytes in flight, of congestion windows",
            panels.SHARE,
            Says(
                "Bytes in flight, as share of the sum of all congestion windows.",
                "Near 1 for a long time: the network is the limit, not the fleet.",
                "Look at losses. The congestion window grows again when they end.",
            ),
            Line(
                promql.ratio(
                    OF.total(metrics.QUIC_IN_FLIGHT_BYTES, "pod"),
                    OF.total(metrics.QUIC_WINDOW_BYTES, "pod"),
                ),
                "{{pod}}",
            ),
            limits=above(0.9),
            most=1,
        ),
        graph(
            "Datagrams that the kernel dropped",
            panels.PER_S,
            Says(
                "Datagrams per second that the kernel dropped because the receive buffer "
                "of our socket was full.",
                "Any: the process did not read in time, or the buffer is too small.",
                "docs/how-to/deploy.md says how large `net.core.rmem_max` should be. "
                "Look at the event loop too.",
            ),
            Line(OF.rate(metrics.UDP_DROPPED, "pod"), "{{pod}}"),
            limits=above(1),
        ),
    ],
)

_traffic = Row(
    "How much is sent?",
    [
        graph(
            "Bytes in datagrams",
            panels.BYTES_PER_S,
            Says(
                "Bytes in UDP datagrams per second, by component and direction.",
                "There is no bad value, but a jump has a reason.",
                "A jump without more requests: data is being loaded, or sent again.",
            ),
            Line(
                OF.rate(metrics.UDP_BYTES, "component", "direction"), "{{component}} {{direction}}"
            ),
        ),
        graph(
            "Datagrams",
            panels.PER_S,
            Says(
                "UDP datagrams per second, by component and direction.",
                "Far more than before for the same number of bytes: datagrams became small.",
                "Compare bytes with datagrams: a full datagram has about 1,200 bytes.",
            ),
            Line(
                OF.rate(metrics.UDP_DATAGRAMS, "component", "direction"),
                "{{component}} {{direction}}",
            ),
        ),
    ],
)

BOARD = Board(
    "transport",
    "Transport",
    "QUIC and WebSocket: open connections, refused connections, and the network path.",
    [
        _connected,
        _refused,
        _path,
        _traffic,
        Row("Does an event loop freeze?", [resource_rows.lag(OF, width=24)]),
    ],
    [pods(promql.like(".+"))],
)
