"""PostgreSQL as a process of the fleet: its server, a door with TLS in front, a password."""
