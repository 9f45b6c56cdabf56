"""Draw the picture of README.md and ARCHITECTURE.md: from a tick to a decision to learning."""

from __future__ import annotations

from tools.docs.pictures.drawing import Board


def draw() -> str:
    """Return the picture of the whole fleet, from a tick to learning, as SVG."""
    board = Board(880, 364, "From a tick to a decision, and from its outcome back to learning")
    board.titled(20, 90, 130, 76, "feed", "CSV, Parquet,", "your code", fill="plain")
    board.titled(200, 90, 130, 76, "client", "keeps the last", "m values", fill="data")
    board.titled(390, 90, 160, 76, "coordinator", "splits, merges,", "decides", fill="data")
    for number in range(3):
        board.titled(640, 24 + 76 * number, 210, 62, f"agent {number + 1}", *SEARCH, fill="data")
        board.path(f"M550 {118 + 6 * number} C 595 {118 + 6 * number}, 595 {55 + 76 * number},"
                   f" 640 {55 + 76 * number}")  # fmt: skip
    board.titled(
        390, 268, 160, 76, "sync", "one transaction:", "store, settle, learn", fill="learn"
    )
    board.titled(640, 280, 210, 52, "PostgreSQL", "the only state", fill="keep")
    board.path("M150 128 L200 128")
    board.path("M330 118 L390 118")
    board.words(360, 110, "window", size=11, faint=True)
    board.path("M390 142 L330 142")
    board.words(360, 158, "decision", size=11, faint=True)
    board.path("M455 166 L455 268")
    board.words(448, 212, "ticks and", size=11, anchor="end", faint=True)
    board.words(448, 226, "decisions", size=11, anchor="end", faint=True)
    board.path("M550 306 L640 306")
    board.path("M490 268 L490 166", dashed=True)
    board.path("M530 268 C 545 245, 590 236, 640 222", dashed=True)
    board.words(500, 212, "change feed:", size=11, anchor="start", faint=True)
    board.words(500, 226, "points, learning", size=11, anchor="start", faint=True)
    board.words(265, 300, "QUIC with mutual TLS on every line;", size=11, faint=True)
    board.words(265, 316, "history in shards, each shard held twice", size=11, faint=True)
    return board.svg()


SEARCH = ("holds shards, finds the", "nearest windows exactly")
