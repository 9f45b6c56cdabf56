"""Frames and the state machines of a link. Everything is sans-IO: tests call plain functions."""
