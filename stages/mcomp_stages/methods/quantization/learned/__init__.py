"""Scales that training changes, and the other ways to quantize while training."""
