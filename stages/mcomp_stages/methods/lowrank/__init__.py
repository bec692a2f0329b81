"""Layers as products of thinner layers."""
