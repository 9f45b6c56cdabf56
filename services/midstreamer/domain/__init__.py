"""Values that all other packages share. Nothing here reads a clock or does input or output."""
