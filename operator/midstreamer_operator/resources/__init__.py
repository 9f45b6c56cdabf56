"""Objects of the API server as values, and values as objects; pure, and without a decision."""
