"""Access of a pod to the Kubernetes API: a small client, certificate requests, and Events."""
