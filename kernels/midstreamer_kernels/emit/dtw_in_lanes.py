"""Dynamic time warping of one series against many windows at once: lane l holds window l.

The cost matrix uses band coordinates: column j of row i is in slot ``j - i + band``. There the cell
above is one slot ahead, and the diagonal neighbour is in the same slot. So memory holds only one
row of cells, whatever the band:

    row i - 1:   ... [ s ] [s+1] ...     diagonal, up
    row i    :   [s-1] [ s ] ...         left, the cell

If rows were computed one after the other, each cell would load and store memory and wait for the
cell before it. So a group of `Shape.rows` rows is computed together. Each row is two slots behind
the row above it: at step s row r is at slot ``s - 2r``. A cell of row r needs two cells of the row
above: the one above it, computed one step ago, and the diagonal one, computed two steps ago. The
lesser of these two is ``pairs[r - 1]``, and ``newest[r]`` is the newest cell of row r; both stay in
registers. One step computes one cell per row. These cells do not wait for each other, and the step
takes one load and one store of the row in memory:

    newest[r] <- (query[r] - point)**2 + min(newest[r], pairs[r - 1])
    pairs[r]  <- min(newest[r], newest[r] of the step before)

In the first and the last steps of a group not every row has a cell. Those steps are unrolled, so
that no cell is computed needlessly, and the loop between them is the same for all bands. The loop
itself is unrolled twice, because values then need not move between registers. A slot is
skipped if it is outside of the matrix for every row of the group. If it is inside for one row and
outside for another row, the padding of the windows makes the cell of the other row infinite.

The two minima of a cell use different instructions. The minimum with ``newest[r]`` is in the chain
from cell to cell. It compares floats, because it is between two additions, and many processors need
an extra cycle to pass a value to their integer unit. The minimum in ``pairs[r]`` is not in that
chain. It compares integers, for which there are more units.

On a Zen 3 processor with AVX2, this reaches 60 % of the measured limit of the machine at a band of
6, and 67 % at a band of 100. A vector then fills two registers, and a group has 2 rows. Three
variants are slower: integers for both minima reach 54 %, floats for both minima reach 50 %, and one
row at a time reaches 46 %.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit import cancel_flag
from midstreamer_kernels.emit.vector_operations import VOID, Shape, Vectors, function

CHECK_GROUPS = 8  # groups of rows between two checks of the limit and of the stop flag
UNROLLED = 2  # iterations of the inner loop that are unrolled


def emit_lanes(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit ``dtw_lanes(query, n, windows, m, band, limit, cells, costs, stop)``.

    query : n elements
    windows : ``(m + 2 * padding) * lanes`` elements, with a padding of ``shape.rows - 1`` points:
        point t of lane l at ``(padding + t) * lanes + l``, and infinity in the padding
    band : half-width of the band, at least ``|n - m|``
    limit : squared distance; if every lane exceeds it, the comparison may stop early, and all costs
        are infinite
    cells : scratch of ``(2 * band + 2) * lanes`` elements
    costs : receives the squared distances, `lanes` elements
    stop : address of the flag that cancels the comparison (see `emit.cancel_flag`); if the flag is
        set, all costs are infinite
    """
    number = shape.number
    emitted, builder = function(
        module, f"dtw_lanes_{shape.name}", VOID,
        query=number.pointer, n=index, windows=number.pointer, m=index, band=index,
        limit=number.type, cells=number.pointer, costs=number.pointer,
        stop=cancel_flag.FLAG,
    )  # fmt: skip
    _Lanes(emitted, Vectors(builder, shape, index)).write()
    return emitted


class _Lanes:
    """Emits the body of ``dtw_lanes``; the attributes are its arguments and shared LLVM values."""

    def __init__(self, emitted: ir.Function, vectors: Vectors) -> None:
        self.vectors, self.builder, self.shape = vectors, vectors.builder, vectors.shape
        query, n, windows, m, band, limit, cells, costs, stop = emitted.args
        self.query, self.n, self.m, self.band = query, n, m, band
        self.limit, self.cells, self.costs = limit, cells, costs
        self.stop = cancel_flag.readable(self.builder, stop)
        self.windows = vectors.at(windows, (self.shape.rows - 1) * self.shape.lanes)
        self.failed = emitted.append_basic_block("failed")

    def write(self) -> None:
        """Emit the whole body of the function."""
        build, vec, rows = self.builder, self.vectors, self.shape.rows
        self._clear()
        whole = build.sub(self.n, build.srem(self.n, vec.constant(rows)))
        grouped = build.select(self._fits(), whole, vec.constant(0))
        stride = CHECK_GROUPS * rows
        with vec.for_range(0, grouped, stride) as part:
            end = self._lesser(build.add(part.index, vec.constant(stride)), grouped)
            with vec.for_range(part.index, end, rows) as group:
                self._advance(group.index, rows)
            self._leave_when_stopped()
            self._leave_when_beyond(build.sub(end, vec.constant(1)))
        with vec.for_range(grouped, self.n) as row:
            self._advance(row.index, 1)
        last = build.add(build.sub(self.m, self.n), self.band)
        vec.store(self.cell(last), self.costs)
        build.ret_void()
        build.position_at_end(self.failed)
        vec.store(vec.infinite(), self.costs)
        build.ret_void()

    def _clear(self) -> None:
        """Emit the first row of cells: 0 in slot `band`, where every path begins, else infinity."""
        build, vec = self.builder, self.vectors
        slots = build.add(build.shl(self.band, vec.constant(1)), vec.constant(2))
        with vec.for_range(0, slots) as slot:
            vec.store(vec.infinite(), self.cells, self.elements(slot.index))
        vec.store(vec.every(0.0), self.cells, self.elements(self.band))

    def _fits(self) -> ir.Value:
        """Return one bit: whether band and windows are wide enough to compute rows in groups."""
        build, vec, rows = self.builder, self.vectors, self.shape.rows
        surplus = self._greater(build.sub(self.n, self.m), vec.constant(0))
        return build.and_(
            build.icmp_signed(">=", build.sub(self.band, surplus), vec.constant(rows - 1)),
            build.icmp_signed(">=", self.m, vec.constant(rows)),
        )

    def _advance(self, i: ir.Value, rows: int) -> None:
        """Emit the computation of the rows [i, i + rows) from row i - 1, in place in `cells`."""
        build, vec = self.builder, self.vectors
        low, high = self._slots(i, rows)
        step = _Step(self, i, rows)
        state = [vec.infinite()] * (2 * rows) + [self.cell(low)]
        ends = 2 * (rows - 1)
        for t in range(ends):
            state = step(build.add(low, vec.constant(t)), state, 0, t // 2 + 1)
        begin, end = build.add(low, vec.constant(ends)), build.add(high, vec.constant(1))
        even = build.sub(end, build.and_(build.sub(end, begin), vec.constant(UNROLLED - 1)))
        with vec.for_range(begin, even, UNROLLED, carried=state) as loop:
            turn = loop.values
            for t in range(UNROLLED):
                turn = step(build.add(loop.index, vec.constant(t)), turn, 0, rows)
            loop.carry(turn)
        with vec.for_range(even, end, carried=loop.values) as rest:
            rest.carry(step(rest.index, rest.values, 0, rows))
        state = rest.values
        for t in range(ends):
            state = step(build.add(end, vec.constant(t)), state, t // 2 + 1, rows)

    def _slots(self, i: ir.Value, rows: int) -> tuple[ir.Value, ir.Value]:
        """Return the first and last slot that hold a cell of the matrix in any of the rows.

        The rows are [i, i + rows). Column j of row i is in slot ``j - i + band``. The slots are
        those of the band, 0 to ``2 * band``, except the slots that are outside of the matrix in
        every one of these rows.
        """
        build, vec = self.builder, self.vectors
        before = build.sub(build.sub(self.band, i), vec.constant(rows - 1))
        last_column = build.sub(build.add(self.band, build.sub(self.m, vec.constant(1))), i)
        return (
            self._greater(before, vec.constant(0)),
            self._lesser(build.shl(self.band, vec.constant(1)), last_column),
        )

    def _leave_when_stopped(self) -> None:
        """Emit code that ends the comparison if the stop flag is set: nobody needs the costs."""
        build = self.builder
        following = build.append_basic_block("wanted")
        build.cbranch(cancel_flag.is_set(build, self.stop), self.failed, following)
        build.position_at_end(following)

    def _leave_when_beyond(self, i: ir.Value) -> None:
        """Emit early abandoning: end the comparison if all cells of row i exceed the limit.

        Every warping path crosses row i. So if all its cells exceed the limit in every lane, no
        lane can come within the limit any more.
        """
        build, vec = self.builder, self.vectors
        low, high = self._slots(i, 1)
        end = build.add(high, vec.constant(1))
        with vec.for_range(low, end, carried=[vec.infinite()]) as slot:
            slot.carry([vec.least(slot.values[0], self.cell(slot.index))])
        near = vec.any_within(slot.values[0], vec.splat(self.limit))
        following = build.append_basic_block("following")
        build.cbranch(near, following, self.failed)
        build.position_at_end(following)

    def elements(self, vectors: ir.Value) -> ir.Value:
        """Return the number of elements in `vectors` vectors."""
        return self.builder.mul(vectors, self.vectors.constant(self.shape.lanes))

    def cell(self, slot: ir.Value) -> ir.Value:
        """Load the cell in slot `slot` of the row in memory: a vector with one element per lane."""
        return self.vectors.load(self.cells, self.elements(slot))

    def _lesser(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def _greater(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)


class _Step:
    """Emits one step of the rows [i, i + rows): one cell of each row, in all lanes.

    Steps pass on a list of vectors, the state. It holds the newest cell of each row, then the
    lesser of the two newest cells of each row. The last vector is the cell of row i - 1 that the
    step loaded from memory. In this step it is the cell above the new cell of row i; in the next
    step it is the diagonal neighbour.
    """

    def __init__(self, lanes: _Lanes, i: ir.Value, rows: int) -> None:
        build, vec = lanes.builder, lanes.vectors
        self.lanes, self.rows = lanes, rows
        places = [build.add(i, vec.constant(r)) for r in range(rows)]
        self.query = [vec.splat(vec.load_one(lanes.query, place)) for place in places]
        # Pointer to the window's point that row 0 uses at step 0. At step s, row r uses the point
        # that is ``s - r`` points after it.
        self.points = vec.at(lanes.windows, lanes.elements(build.sub(i, lanes.band)))

    def __call__(self, s: ir.Value, state: list[ir.Value], first: int, last: int) -> list[ir.Value]:
        """Emit step `s` for the rows [first, last); return the new state.

        At step s, row r of the group is at slot ``s - 2 * r``. So each row begins two steps after
        the row above it, and ends two steps after it. In the first steps the rows from `last` on
        have not begun yet. In the last steps the rows before `first` are complete already.
        """
        lanes, vec, build, rows = self.lanes, self.lanes.vectors, self.lanes.builder, self.rows
        newest, pairs, diagonal = state[:rows], state[rows:-1], state[-1]
        cells = [vec.infinite()] * first + newest[first:]
        above = lanes.cell(build.add(s, vec.constant(1))) if first == 0 else diagonal
        for r in range(first, last):
            point = vec.load(self.points, lanes.elements(build.sub(s, vec.constant(r))))
            difference = vec.sub(self.query[r], point)
            before = vec.least(diagonal, above) if r == 0 else pairs[r - 1]
            best = vec.lesser(newest[r], before)
            cells[r] = vec.add(vec.mul(difference, difference), best)
        if last == rows:
            behind = build.sub(s, vec.constant(2 * (rows - 1)))
            vec.store(cells[-1], lanes.cells, lanes.elements(behind))
        return [*cells, *map(vec.least, cells, newest), above]
