"""Where results are kept: content by key, whole or not at all."""
