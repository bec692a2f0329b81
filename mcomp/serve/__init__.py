"""A folder that serves a model: the file, what its inputs need and what its outputs mean, and a card."""
