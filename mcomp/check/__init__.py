"""`mcomp check`: hold a recipe against the real model and the real data before any work is done.

First what can be seen at once: the data loads, the models take its samples, checkpoints fit, patterns match.
Then a rehearsal: every stage of the pipeline for real, on a few samples, in a store that is thrown away.
"""
