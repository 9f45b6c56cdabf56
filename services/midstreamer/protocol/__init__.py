"""Frames and the state machines of a link. Nothing here does I/O: tests call plain functions."""
