"""What to do about what was observed: pure, with the time given in, and explained in words."""
