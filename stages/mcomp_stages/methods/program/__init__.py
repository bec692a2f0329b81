"""Models as programs of torch.export, in operators that torch itself has."""
