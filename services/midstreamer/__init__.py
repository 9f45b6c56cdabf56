"""Midstreamer: finds what in history looks like now, on a fleet, and learns from each outcome."""

__version__ = "0.1.0"
