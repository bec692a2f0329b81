"""How many bits each layer gets: what they cost, and the choice within a budget."""
