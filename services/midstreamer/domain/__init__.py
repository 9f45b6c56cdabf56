"""The values everything else speaks of; no part of it reads a clock or does input or output."""
