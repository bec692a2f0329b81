"""From a trained float model to integers without training: ranges, roundings and what makes them lose less.

`config` is what a recipe says, free of torch; `pipeline` does it in order.
"""
