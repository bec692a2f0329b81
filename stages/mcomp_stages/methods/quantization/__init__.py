"""Quantizers in the captured graph: where they stand, how they learn their range, how they become integers."""
