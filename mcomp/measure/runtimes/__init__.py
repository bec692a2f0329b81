"""What serves exported files: a file a runtime, found by `mcomp.measure.runtime`."""
