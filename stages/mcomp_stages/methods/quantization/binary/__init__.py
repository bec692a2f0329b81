"""Weights and activations of one bit, ternary weights, and what networks need around them."""
