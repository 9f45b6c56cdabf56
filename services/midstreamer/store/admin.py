"""What somebody who looks after a store may ask: bring it up to date, show it.

Behind `midstreamer db`.  Each function takes an open store and returns values; printing is the
command line's part.  `store.audit` checks what is stored.
"""

from __future__ import annotations

from midstreamer.store.ports import Status, Store


async def migrate(store: Store) -> Status:
    """Bring the schema up to date; opening a store does just that."""
    await store.open()
    return await store.status()


async def status(store: Store) -> Status:
    """Schema version, counts and sizes."""
    return await store.status()
