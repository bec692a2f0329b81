"""How the range of an activation follows from the values that were seen: streaming, in one pass.

`config` is what a recipe says, free of torch; `observer` makes what it says.
"""
