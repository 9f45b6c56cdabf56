"""Migrations: numbered .sql files that lead from an empty database to the present schema."""
