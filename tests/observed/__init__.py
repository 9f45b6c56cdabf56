"""A whole fleet under load, its database and its operator, for whoever looks at metrics."""
