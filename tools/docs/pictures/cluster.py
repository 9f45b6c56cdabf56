"""Pictures of the fleet in a cluster: its pods, and how a pod gets its certificate."""

from __future__ import annotations

from tools.docs.pictures.drawing import Board

LANES = {"pod": 100, "API server": 360, "operator": 610, "Secret and ledger": 810}
TURN, FIRST = 38, 96

# Each message of the sequence diagram: its sender, its receiver and its text. If the sender is also
# the receiver, the text describes work that the sender does by itself.
STEPS: tuple[tuple[str, str, str], ...] = (
    ("pod", "pod", "makes a key in memory"),
    ("pod", "API server", "signing request for spiffe://…/kind/ns/pod/uid"),
    ("API server", "API server", "records which account sent it"),
    ("API server", "operator", "watch: a request of our signer"),
    ("operator", "API server", "reads the pod: does it exist, which account?"),
    ("operator", "operator", "plan: do name, account, kind and usages agree?"),
    ("operator", "API server", "approves, or denies and writes an Event"),
    ("operator", "Secret and ledger", "signs, and writes the ledger"),
    ("operator", "API server", "puts the certificate into the request"),
    ("API server", "pod", "watch: the certificate"),
    ("pod", "pod", "checks it like a peer does, then serves"),
)


def identity() -> str:
    """Return a sequence diagram of how a pod gets its certificate, as SVG."""
    height = FIRST + TURN * len(STEPS) + 30
    board = Board(900, height, "How a pod gets its certificate")
    for name, x in LANES.items():
        board.titled(x - 75, 18, 150, 36, name, fill="data" if name != "API server" else "keep")
        board.curve([(x, 54), (x, height - 18)], colour="faint", width=1.0)
    for number, (source, target, text) in enumerate(STEPS):
        y = FIRST + TURN * number
        begin, end = LANES[source], LANES[target]
        if begin == end:
            board.dot(begin, y - 4)
            board.words(begin + 10, y, text, size=11, anchor="start", backed=True)
            continue
        board.path(f"M{begin} {y} L{end} {y}")
        board.words((begin + end) / 2, y - 6, text, size=11, backed=True)
    return board.svg()


def pods() -> str:
    """Return a picture of the pods of an installation and their connections, as SVG."""
    board = Board(880, 372, "The pods of one installation, and which pod dials which")
    board.titled(20, 70, 120, 62, "clients", "outside or inside", fill="plain")
    board.titled(190, 70, 130, 62, "Service, UDP", "NodePort,", "LoadBalancer", fill="keep")
    board.titled(
        380, 60, 190, 82, "coordinator 0, 1", "StatefulSet,", "headless Service", fill="data"
    )
    board.titled(660, 60, 190, 82, "agent × 2", "AgentPool,", "kernels ahead", fill="data")
    board.titled(380, 200, 190, 72, "sync × 2", "Deployment, headless", fill="learn")
    board.titled(660, 205, 190, 62, "PostgreSQL", "TLS, a volume", fill="keep")
    board.titled(
        20,
        200,
        250,
        72,
        "operator × 2",
        "one leads with a Lease;",
        "signs for every pod",
        fill="learn",
    )
    board.titled(20, 310, 250, 44, "API server", fill="keep")
    board.path("M140 101 L190 101")
    board.path("M320 101 L380 101")
    board.path("M660 101 L570 101")
    board.path("M475 142 L475 200")
    board.path("M700 142 L570 218")
    board.path("M570 240 L660 240")
    board.path("M145 272 L145 310")
    board.path("M380 260 C 330 300, 310 322, 270 328", dashed=True)
    board.words(
        392, 318, "every pod requests its certificate here", size=11, anchor="start", faint=True
    )
    board.words(
        20,
        34,
        "An arrow starts at the side that dials. All are QUIC with mutual TLS, except",
        size=11,
        anchor="start",
        faint=True,
    )
    board.words(
        20,
        49,
        "PostgreSQL (TLS, verified) and the API server (HTTPS).",
        size=11,
        anchor="start",
        faint=True,
    )
    return board.svg()
