"""A first recipe of one's own, written by `mcomp init`."""
