"""Decisions of the operator: pure functions of what was observed and of the time.

Each decision that refuses or waits carries a message that says why.
"""
