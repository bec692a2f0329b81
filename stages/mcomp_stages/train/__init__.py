"""Stages that train on labels alone."""
