"""Who a peer is and whether it may connect; only `files` touches the disk."""
