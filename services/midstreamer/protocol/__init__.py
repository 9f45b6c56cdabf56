"""Frames and the machines of a connection: sans-IO, so they can be tested by plain calls."""
