"""Losses between a student's and its teachers' outputs, and training with them."""
