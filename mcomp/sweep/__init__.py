"""`run -m`: one recipe, many settings. Every job is resolved and checked before the first one starts.

Hydra's grammar lists the jobs (`jobs`) and its launchers start them (`job`), but what they start is a number,
looked up in the plan file of the sweep. So Hydra composes no recipe a second time, any launcher can be used,
and a job that the store can answer is not started at all. The others are started in waves, so that no two of
them do the same work at the same time (`waves`, `run`).
"""
