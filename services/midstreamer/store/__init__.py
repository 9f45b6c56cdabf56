"""The store: its interface, PostgreSQL, an in-memory store for tests, and an embedded server."""
