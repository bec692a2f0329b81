"""Numbers of 16 bits in place of 32: float16, which ends at 65504, and bfloat16, of 8 binary digits."""
