"""A fleet under load with its database and operator, for tests and people that read its metrics."""
