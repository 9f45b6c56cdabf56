"""Generators of the pages, schemas and pictures that are written from the code."""
