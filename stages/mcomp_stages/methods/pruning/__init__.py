"""Which channels belong together, how they are scored, and how they are cut."""
