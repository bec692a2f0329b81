"""Figures of a model or a file: quality, size, cost, latency, and whether two agree."""
