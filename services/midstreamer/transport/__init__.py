"""Carriers of frames behind one interface: QUIC, WebSocket over TLS, and memory for tests."""
