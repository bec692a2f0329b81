"""Weights alone in few bits: which integers stand for a weight, found with and without samples."""
