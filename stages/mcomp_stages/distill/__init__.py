"""Stages that train a student with teachers."""
