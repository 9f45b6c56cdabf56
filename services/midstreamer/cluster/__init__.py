"""A pod's way to the Kubernetes API: a small client, and certificates asked for there."""
