"""mcomp: one YAML recipe from a trained PyTorch checkpoint to a small, fast file that is proven in its runtime."""
