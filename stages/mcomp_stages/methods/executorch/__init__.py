"""Models as programs of ExecuTorch, whose layers XNNPACK runs."""
