"""A runtime that doubles its input, and that a 9 kills; it prints, as runtimes do."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcomp.measure.runtimes.elsewhere import Run, serve


def load(path: Path, threads: int) -> tuple[Mapping[str, Sequence[Any]], Run]:
    """Return what it takes, and what runs it."""
    print("loading", flush=True)
    if path.read_text() == "abort":
        os.abort()
    if path.read_text() == "bad":
        raise ValueError("it is bad")
    return {"x": ["float32", 2, 3]}, twice


def twice(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the double."""
    os.write(1, b"running\n")
    time.sleep(0.002)
    if inputs["x"][0, 1] == -1:
        raise ValueError("the middle number is -1")
    if inputs["x"][0, 1] == 9:
        os.abort()
    return np.asarray(2 * inputs["x"])


if __name__ == "__main__":
    serve(load)
