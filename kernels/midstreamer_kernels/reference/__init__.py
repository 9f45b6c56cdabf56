"""Slow, obvious twins of everything fast: the definitions, and the oracle of the tests.

Plain Python on lists of floats, written as the papers write it. A fast function owes its twin the
same bits in float64, not merely closeness.
"""
