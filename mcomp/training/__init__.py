"""The training loop that every stage shares, and what may be said about it in a recipe."""
