"""The AgentDB: group commit, exactly once, settlement, leases and the change feed."""
