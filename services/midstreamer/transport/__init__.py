"""Carriers of frames: QUIC for real, memory for one process, behind one small interface."""
