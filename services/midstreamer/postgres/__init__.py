"""The process `midstreamer postgres`: a PostgreSQL server behind a gate that terminates TLS."""
