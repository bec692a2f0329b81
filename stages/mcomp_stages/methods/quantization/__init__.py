"""Quantizers in the captured graph: where they stand, how they learn ranges, how they become integers."""
