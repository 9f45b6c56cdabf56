"""Conversion between Kubernetes objects and values of the operator: pure, without decisions."""
