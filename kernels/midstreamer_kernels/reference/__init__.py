"""Reference implementations: slow and simple versions of the fast functions.

They define the results, and the tests compare the fast functions with them. They are plain Python
on lists of floats, written as in the papers. A fast function must return the same bits in float64
as its reference, not merely a close value.
"""
