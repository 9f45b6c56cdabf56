"""A fleet under load, with database and operator, for tests and people that read its metrics."""
