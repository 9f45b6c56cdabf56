"""A bounded heap of matches: the worst kept is at the root, so that a better one can replace it.

A match is a distance and the number of its candidate; equal distances are ordered by that number.
The two arrays are the caller's, and so is the count of places in use.
"""

from __future__ import annotations

from typing import Any

from midstreamer_kernels.native.compiling import inlined, jit


@inlined
def _after(distance_a: float, order_a: int, distance_b: float, order_b: int) -> bool:
    """Tell whether match a is worse than match b."""
    return distance_a > distance_b or (distance_a == distance_b and order_a > order_b)


@jit
def sift_down(distances: Any, orders: Any, place: int, size: int) -> None:
    """Let the match at `place` sink until none below it is worse."""
    while True:
        child = 2 * place + 1
        if child >= size:
            return
        if child + 1 < size and _after(
            distances[child + 1], orders[child + 1], distances[child], orders[child]
        ):
            child += 1
        if not _after(distances[child], orders[child], distances[place], orders[place]):
            return
        distances[place], distances[child] = distances[child], distances[place]
        orders[place], orders[child] = orders[child], orders[place]
        place = child


@jit
def offer(distances: Any, orders: Any, size: int, distance: float, order: int) -> int:
    """Put a match into the heap whose root is the worst kept; return the new size."""
    if size == distances.size:
        if _after(distances[0], orders[0], distance, order):
            distances[0], orders[0] = distance, order
            sift_down(distances, orders, 0, size)
        return size
    place = size
    distances[place], orders[place] = distance, order
    while place > 0:
        parent = (place - 1) // 2
        if not _after(distances[place], orders[place], distances[parent], orders[parent]):
            break
        distances[place], distances[parent] = distances[parent], distances[place]
        orders[place], orders[parent] = orders[parent], orders[place]
        place = parent
    return size + 1
