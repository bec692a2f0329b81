"""Models as one safetensors file with packed weights."""
