"""What is kept: what we need of a store, PostgreSQL, a fake of it, and an embedded server."""
