"""Where samples come from: providers, their four splits, and the order in which batches are drawn."""
