"""The recipe: its schema, the strict reading of its YAML, its composition with overrides, and its errors."""
