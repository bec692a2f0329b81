"""Data providers."""
