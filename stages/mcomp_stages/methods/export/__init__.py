"""What all exports share: the graph that is served, and the proof that the file computes the same."""
