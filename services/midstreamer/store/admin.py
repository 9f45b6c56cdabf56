"""Operator tasks behind `midstreamer db`: migrate the schema and show the status of a store.

The functions return values; the command line prints them.  `store.audit` implements
`midstreamer db check`.
"""

from __future__ import annotations

from midstreamer.store.store_interface import Status, Store


async def migrate(store: Store) -> Status:
    """Open the store, which migrates its schema, and return its status."""
    await store.open()
    return await store.status()


async def status(store: Store) -> Status:
    """Return the schema version, row counts and table sizes of an open store."""
    return await store.status()
