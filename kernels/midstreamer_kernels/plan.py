"""What the engines of a search agree on: the table of histories, and the room left for rounding.

The table has a row for each history to search, of whole numbers in the columns named here. Values
and statistics are given by address, since numba has no cheap list of arrays and WebAssembly copies
them anyway; whoever makes the table keeps the arrays alive until the search is over.
"""

from __future__ import annotations

VALUES = 0  # address of the first stored point
SHIFT = 1  # address of the first window's shift; 0 when windows are compared as they are
SCALE = 2  # address of the first window's scale, likewise
ITEM_BYTES = 3  # 4 for float32 points, 8 for float64
FIRST = 4  # the first candidate, counted from the first stored point
COUNT = 5  # number of candidates
START = 6  # absolute position of the first stored point
COLUMNS = 7

SLACK = 1e-9  # sums of 2m non-negative terms round by less than 2m * 2**-52: enough to m = 10**6
SMALLEST = 1e-290  # below about 1e-308 squares lose their digits, and with them the relative slack
SEEDS_PER_MATCH = 2  # candidates with the least bounds compared first, for each match wanted
