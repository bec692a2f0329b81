"""Zeros inside of weights: which, when, and how they stay."""
