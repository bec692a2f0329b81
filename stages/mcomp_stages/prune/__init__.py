"""Stages that make a model smaller by leaving parts out."""
