"""A bounded heap of matches: the worst match is at the root, so that a better one can replace it.

A match is a distance and the number of its candidate. Equal distances are ordered by that number.
The caller owns the arrays `distances` and `orders` and the count of elements in use.
"""

from __future__ import annotations

from typing import Any

from midstreamer_kernels.native.jit_decorators import inlined, jit


@inlined
def _after(distance_a: float, order_a: int, distance_b: float, order_b: int) -> bool:
    """Return whether match a is worse than b: farther, or as far with a greater number."""
    return distance_a > distance_b or (distance_a == distance_b and order_a > order_b)


@jit
def sift_down(distances: Any, orders: Any, place: int, size: int) -> None:
    """Move the match at index `place` down the heap until no child is worse."""
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
    """Add a match to a heap of `size` matches, and return the new size.

    If the heap is full, the match replaces the worst one, or is dropped if it is worse itself.
    """
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
