"""The backward LB_Keogh bound: how far a query lies outside of the envelope of a row.

The extremes (maximum and minimum) of ``2 * band + 1`` points are found by quadrupling. The first
pass computes the extremes of the 4 points from each index on. Each further pass combines four
adjacent spans into one that is four times as long: 16 points, 64 points and so on. In the last pass
the four spans overlap, so that together they have exactly ``2 * band + 1`` points. That takes
log4(2 * band + 1) vectorised passes over the row.

Two alternatives are not used. The algorithm of Lemire (2009) keeps a queue of candidates and
handles one point at a time instead of a vector. Combining two spans per pass instead of four takes
1.5 times as long. It needs fewer instructions but more passes, and each pass must wait until the
pass before it has stored its results.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import Shape, Vectors, function

# Rows of scratch memory: one of points, two of maxima, two of minima. A pass reads one row of the
# maxima and fills the other row, and does the same for the minima.
ROWS = 5
# Each pass combines the extremes of this many adjacent spans of points into the extremes of one
# longer span.
SPANS = 4


def emit_envelope_excess(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``envelope_excess(points, n, row, m, band, passes, room, stride)``.

    The envelope of `row` is the maximum and the minimum within `band` points of each index. The
    function returns the sum of the squared distances of the n `points` to this envelope. It leaves
    out the points after the last whole vector. That never makes the sum greater, so the sum still
    is a lower bound.

    passes : the least p with ``SPANS**p >= 2 * band + 1``
    room : scratch of `ROWS` rows of `stride` elements
    stride : at least ``max(n, m) + 2 * band`` elements plus three vectors
    """
    number = shape.number
    emitted, builder = function(
        module, f"envelope_excess_{shape.name}", number.type,
        points=number.pointer, n=index, row=number.pointer, m=index, band=index, passes=index,
        room=number.pointer, stride=index,
    )  # fmt: skip
    points, n, row, m, band, passes, room, stride = emitted.args
    envelope = _Envelope(Vectors(builder, shape, index), room, stride, n, band)
    envelope.copy(row, m)
    builder.ret(envelope.excess(points, *envelope.extremes(passes)))
    return emitted


class _Envelope:
    """Emits the body of ``envelope_excess``; its methods share LLVM values as attributes."""

    def __init__(
        self, vectors: Vectors, room: ir.Value, stride: ir.Value, n: ir.Value, band: ir.Value
    ) -> None:
        self.vectors, self.builder = vectors, vectors.builder
        self.room, self.stride, self.n, self.band = room, stride, n, band
        self.width = self.builder.add(
            self.builder.mul(band, vectors.constant(2)), vectors.constant(1)
        )

    def copy(self, row: ir.Value, m: ir.Value) -> None:
        """Emit the copy of the row into the scratch memory, from element `band` on.

        The first point is repeated before the row, and the last point after it. This padding does
        not change the maximum and the minimum within the band of an index. If the band reaches
        beyond the first point of the row, it also contains the first point itself. The same is true
        for the last point.
        """
        build, vec = self.builder, self.vectors
        lanes, one = vec.shape.lanes, vec.constant(1)
        first = vec.splat(vec.load_one(row))
        last = vec.splat(vec.load_one(row, build.sub(m, one)))
        with vec.for_range(0, self.band, lanes) as place:
            vec.store(first, self.room, place.index)
        inside = vec.at(self.room, self.band)
        whole = build.sub(m, build.srem(m, vec.constant(lanes)))
        with vec.for_range(0, whole, lanes) as place:
            vec.store(vec.load(row, place.index), inside, place.index)
        with vec.for_range(whole, m) as place:
            vec.store_one(vec.load_one(row, place.index), inside, place.index)
        with vec.for_range(m, build.add(self.n, self.band), lanes) as place:
            vec.store(last, inside, place.index)

    def extremes(self, passes: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Emit the passes over the row; return scratch offsets of its upper and lower envelope."""
        build, vec = self.builder, self.vectors
        zero, one = vec.constant(0), vec.constant(1)
        # The loop carries four values. Three are offsets in the scratch memory: of the maxima that
        # the pass reads, of the minima that it reads, and of the maxima that it writes. The fourth
        # value is a number of points: each extreme that the pass reads is the extreme of this
        # number of points.
        with vec.for_range(0, passes, carried=[zero, zero, self.stride, one]) as level:
            high, low, target, span = level.values
            wider = self._lesser(build.mul(span, vec.constant(SPANS)), self.width)
            most = build.sub(wider, span)
            steps = [
                self._lesser(build.mul(span, vec.constant(count)), most) for count in range(SPANS)
            ]
            end = build.add(self.n, build.sub(self.width, wider))
            below = build.add(target, self.stride)
            with vec.for_range(0, end, vec.shape.lanes) as place:
                self._combine(high, target, place.index, steps, highest=True)
                self._combine(low, below, place.index, steps, highest=False)
            following = build.sub(build.mul(self.stride, vec.constant(ROWS - 1)), target)
            level.carry([target, below, following, wider])
        return level.values[0], level.values[1]

    def _combine(
        self, source: ir.Value, target: ir.Value, place: ir.Value, steps: list[ir.Value], *,
        highest: bool,
    ) -> None:  # fmt: skip
        build, vec = self.builder, self.vectors
        here = build.add(source, place)
        a, b, c, d = (vec.load(self.room, build.add(here, step)) for step in steps)
        choose = vec.greater if highest else vec.lesser
        vec.store(choose(choose(a, b), choose(c, d)), self.room, build.add(target, place))

    def excess(self, points: ir.Value, high: ir.Value, low: ir.Value) -> ir.Value:
        """Emit the sum of the squared distances of `points` to the envelope; return that value."""
        build, vec = self.builder, self.vectors
        lanes, zero = vec.shape.lanes, vec.every(0.0)
        whole = build.sub(self.n, build.srem(self.n, vec.constant(lanes)))
        with vec.for_range(0, whole, lanes, carried=[zero]) as place:
            point = vec.load(points, place.index)
            over = vec.sub(point, vec.load(self.room, build.add(high, place.index)))
            under = vec.sub(vec.load(self.room, build.add(low, place.index)), point)
            excess = vec.greater(vec.greater(over, under), zero)
            place.carry([vec.add(place.values[0], vec.mul(excess, excess))])
        parts = [
            build.extract_element(place.values[0], ir.IntType(32)(lane)) for lane in range(lanes)
        ]
        while len(parts) > 1:
            parts = [build.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _lesser(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)
