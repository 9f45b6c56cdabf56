"""Authenticate peers, decide whether they may connect, and keep this process's own credentials."""
