"""Transport: who is connected and who is turned away, and whether the path is good."""

from __future__ import annotations

from dashboards import panels, promql, rows
from dashboards.board import Board, Row, pods
from dashboards.panels import Line, Says, above, graph, number, spread
from dashboards.scope import Scope
from midstreamer.telemetry import metrics, words

OF = Scope(by_pod=True)

_connected = Row(
    "Who is connected?",
    [
        graph(
            "Open connections, by the kind of the peer",
            panels.COUNT,
            Says(
                "Connections that were judged and are open, by what the peer is.",
                "A kind that falls to nothing; clients that rise without end.",
                "Nothing: is its component there, on the board Fleet? Without end: they do not"
                " close what they open; the limits of each identity will refuse them.",
            ),
            Line(OF.total(metrics.LINKS, "kind"), "{{kind}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Open connections, by carrier",
            panels.COUNT,
            Says(
                "The same by what carries them: QUIC, or WebSocket where UDP does not get through.",
                "WebSocket grows while QUIC falls: something on the way drops UDP.",
                "docs/how-to/networks-without-udp.md.",
            ),
            Line(OF.total(metrics.CARRIER_LINKS, "carrier"), "{{carrier}}"),
            stacked=True,
            width=8,
        ),
        graph(
            "Connections accepted",
            panels.PER_S,
            Says(
                "Connections accepted each second, by component.",
                "Many, for longer than a rollout: peers lose their connections and come back.",
                "Look at the losses below, and at restarts on the board Fleet.",
            ),
            Line(OF.rate(metrics.HANDSHAKES, "component", result=words.ACCEPTED), "{{component}}"),
            width=8,
        ),
    ],
)

_refused = Row(
    "Who is turned away, and why?",
    [
        graph(
            "Connections turned away",
            panels.PER_S,
            Says(
                "Connections each second that were not accepted, by component and reason.",
                "`not_allowed`: somebody with a good certificate who is on no list.",
                "The log line `handshake.failed` names who it was; SECURITY.md what that means.",
            ),
            Line(
                OF.rate(
                    metrics.HANDSHAKES,
                    "component",
                    "result",
                    result=promql.none_of(words.ACCEPTED),
                ),
                "{{component}} {{result}}",
            ),
        ),
        number(
            "Share turned away",
            panels.SHARE,
            Says(
                "Connections that were turned away, as share of all that were tried.",
                "Above 10 %, but for attempts from outside that are meant to fail.",
                "The reasons beside.",
            ),
            Line(
                promql.ratio(
                    promql.or_zero(
                        OF.rate(metrics.HANDSHAKES, result=promql.none_of(words.ACCEPTED))
                    ),
                    OF.rate(metrics.HANDSHAKES),
                ),
                "turned away",
            ),
            limits=above(0.5, warn=0.1),
        ),
        number(
            "Frames not allowed",
            panels.COUNT,
            Says(
                "Frames within the last hour that a peer of that kind may not send; each closed"
                " its connection.",
                "Any: a peer is not what it says, or speaks a version that we do not.",
                "The log line `frame.refused` names it.",
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
                "Frames within the last hour of a name that this version does not know, and"
                " skipped.",
                "Many after a rollout: one side is still of the version before.",
                "`midstreamer status` shows the version of each.",
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
    "Is the path good?",
    [
        spread(
            "Round trips of QUIC",
            panels.SECONDS,
            Says(
                "Smoothed round trips of open connections, sampled every few seconds.",
                "A second band far above the first: some peers are far away, or behind a full"
                " queue of the network.",
                "Choose pods above to find which side it is.",
            ),
            OF.buckets(metrics.QUIC_RTT_S),
        ),
        graph(
            "Packets lost",
            panels.SHARE,
            Says(
                "QUIC packets that were declared lost, as share of those sent, by pod; and those"
                " that a probe repeated, because no acknowledgement came in time. Peers that were"
                " turned away and left are probed, and so is what a busy machine answers late.",
                "Losses above 1 %: everything waits for what is sent again.",
                "Drops at our own sockets below? Late event loops? Else the network: compare the"
                " pods of a node.",
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
            "Bytes under way, of those that may be",
            panels.SHARE,
            Says(
                "Bytes that are under way, as share of the congestion windows together.",
                "Near 1 for long: the network, not the fleet, is the limit.",
                "Look at losses: the window grows again once they end.",
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
                "Datagrams each second that found the receive buffer of our socket full.",
                "Any: the process did not read in time, or the buffer is small.",
                "docs/how-to/deploy.md says how large `net.core.rmem_max` should be; look at the"
                " event loop too.",
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
                "Bytes each second, by component and direction.",
                "There is no bad value; a jump has a reason.",
                "A jump without more requests: something is loaded or sent again.",
            ),
            Line(
                OF.rate(metrics.UDP_BYTES, "component", "direction"), "{{component}} {{direction}}"
            ),
        ),
        graph(
            "Datagrams",
            panels.PER_S,
            Says(
                "Datagrams each second, by component and direction.",
                "Far more than before for the same bytes: datagrams became small.",
                "Compare bytes with datagrams: full ones have about 1,200 bytes.",
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
    "QUIC and WebSocket: who is connected, who is turned away, and whether the path is good.",
    [
        _connected,
        _refused,
        _path,
        _traffic,
        Row("Does a process freeze?", [rows.lag(OF, width=24)]),
    ],
    [pods(promql.like(".+"))],
)
