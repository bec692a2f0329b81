"""A model as it flows between stages: an ordinary module, how it was built, and how it was changed."""
