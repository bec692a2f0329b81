"""Whole residual and transformer blocks: which there are, what each is worth, and how one is left out."""
